/* An OpenAI-compatible upstream for load tests: one thread, epoll, no dependencies.  upstream PORT
 *
 * POST .../chat/completions   what it answers is the model's name: load-TOKENS-PAUSE[-FAULT], the pause between two
 *                             tokens in microseconds; 0: as fast as the peer reads, but every event in a write of
 *                             its own. FAULT: cut (hangs up half way), skip (leaves a token out), open (no [DONE]).
 * GET anything                a list of models
 *
 * Every token is the text @NUMBER:TIME, its place in the answer and CLOCK_MONOTONIC in microseconds at its sending, so
 * that whoever reads it knows how long it was on its way. Paced streams send their first token at once and the second
 * after a random part of the pause, so that streams begun together do not stay in step.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { FILES = 65536, REQUEST = 256 * 1024, BATCH = 512 };
#define TICK 200 /* microseconds: what is due sooner waits for it, so that time is not spent on waking up */
#define STAMP "@000000:0000000000000000"

struct connection {
    int fd, tokens, sent, usage, streaming, blocked, place; /* place in the heap, from 1; 0: in none */
    uint64_t due, pause;
    char fault, last; /* last: hang up after this answer */
    char *in, *out;
    size_t read, room, written, filled, out_room;
    char event[640], envelope[256]; /* one token's chunk; what every chunk begins with */
    size_t event_length, stamp;
    struct connection *next; /* of those that send as fast as they can */
};

static struct connection *connections[FILES], *heap[FILES], *eager;
static int epoll, timer, heaped;
static uint64_t streams;

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

static void *grown(void *memory, size_t size) {
    memory = realloc(memory, size);
    if (!memory) {
        perror("upstream");
        exit(1);
    }
    return memory;
}

/* ---- what is due when: a binary heap, heap[1] first */

static void put(struct connection *c, int place) {
    heap[place] = c;
    c->place = place;
}

static void settle(struct connection *c, int place) {
    for (; place > 1 && heap[place / 2]->due > c->due; place /= 2) put(heap[place / 2], place);
    for (int child; (child = 2 * place) <= heaped; place = child) {
        if (child < heaped && heap[child + 1]->due < heap[child]->due) child++;
        if (heap[child]->due >= c->due) break;
        put(heap[child], place);
    }
    put(c, place);
}

static void remove_due(struct connection *c) {
    int place = c->place;
    if (!place) return;
    struct connection *end = heap[heaped--];
    if (end != c) settle(end, place);
    c->place = 0;
}

static void set_timer(void) {
    uint64_t at = heaped ? heap[1]->due : 0, soonest = now() + TICK;
    if (at && at < soonest) at = soonest;
    struct itimerspec when = {.it_value = {(time_t)(at / 1000000), (long)(at % 1000000) * 1000}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

/* ---- writing */

static void add(struct connection *c, const char *bytes, size_t length) {
    if (c->filled + length > c->out_room) c->out = grown(c->out, c->out_room = 2 * (c->filled + length));
    memcpy(c->out + c->filled, bytes, length);
    c->filled += length;
}

/* One event, in an HTTP chunk of its own as uvicorn and Node.js send it. */
static void add_event(struct connection *c, const char *json) {
    char chunk[1024];
    int length = snprintf(chunk, sizeof chunk, "%zx\r\ndata: %s\n\n\r\n", strlen(json) + 8, json);
    add(c, chunk, (size_t)length);
}

static void add_chunk(struct connection *c, const char *delta, const char *reason) {
    char json[800];
    snprintf(json, sizeof json, "%s\"choices\":[{\"index\":0,\"delta\":%s,\"logprobs\":null,\"finish_reason\":%s}]}",
             c->envelope, delta, reason);
    add_event(c, json);
}

static void leave_eager(struct connection *c) {
    struct connection **at = &eager;
    while (*at && *at != c) at = &(*at)->next;
    if (*at) *at = c->next;
}

static void hang_up(struct connection *c) {
    remove_due(c);
    leave_eager(c);
    connections[c->fd] = NULL;
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
}

static void watch(struct connection *c, int blocked) {
    struct epoll_event event = {.events = EPOLLIN | (blocked ? EPOLLOUT : 0), .data.fd = c->fd};
    c->blocked = blocked;
    epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event);
}

/* Whether the connection is still there. */
static int flush(struct connection *c) {
    while (c->written < c->filled) {
        ssize_t sent = send(c->fd, c->out + c->written, c->filled - c->written, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN) {
            if (!c->blocked) watch(c, 1);
            return 1;
        }
        if (sent < 0) return hang_up(c), 0;
        c->written += (size_t)sent;
    }
    c->written = c->filled = 0;
    if (c->blocked) watch(c, 0);
    if (c->last && !c->streaming) return hang_up(c), 0;
    return 1;
}

/* ---- answers */

static void write_number(char *end, uint64_t number, int digits) {
    for (; digits--; number /= 10) *--end = (char)('0' + number % 10);
}

static void add_token(struct connection *c) {
    int skipped = c->fault == 's' && c->sent == c->tokens / 2;
    write_number(c->event + c->stamp + 7, (uint64_t)c->sent++, 6);
    write_number(c->event + c->stamp + 24, now(), 16);
    if (!skipped) add(c, c->event, c->event_length);
}

static void add_end(struct connection *c) {
    char json[512];
    add_chunk(c, "{}", "\"stop\"");
    if (c->usage) {
        snprintf(json, sizeof json,
                 "%s\"choices\":[],\"usage\":{\"prompt_tokens\":120,\"completion_tokens\":%d,\"total_tokens\":%d}}",
                 c->envelope, c->tokens, c->tokens + 120);
        add_event(c, json);
    }
    if (c->fault != 'o') add_event(c, "[DONE]");
    add(c, "0\r\n\r\n", 5);
    c->streaming = 0;
}

static void begin(struct connection *c, const char *model) {
    static const char head[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                               "cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";
    snprintf(c->envelope, sizeof c->envelope,
             "{\"id\":\"chatcmpl-%016llx\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,\"model\":\"%s\",",
             (unsigned long long)++streams, model);
    c->filled = 0;
    add_chunk(c, "{\"content\":\"" STAMP "\"}", "null");
    memcpy(c->event, c->out, c->event_length = c->filled);
    c->stamp = (size_t)((char *)memmem(c->event, c->event_length, STAMP, 24) - c->event);
    c->filled = 0;
    add(c, head, sizeof head - 1);
    add_chunk(c, "{\"role\":\"assistant\",\"content\":\"\"}", "null");
    c->sent = 0;
    c->streaming = 1;
    if (c->pause) {
        c->due = now();
        settle(c, ++heaped);
        set_timer();
    } else {
        c->next = eager;
        eager = c;
    }
}

static void add_answer(struct connection *c, const char *json) {
    char head[160];
    int length = snprintf(head, sizeof head,
                          "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n", strlen(json));
    add(c, head, (size_t)length);
    add(c, json, strlen(json));
}

static void add_completion(struct connection *c, const char *model) {
    char json[1024];
    snprintf(json, sizeof json,
             "{\"id\":\"chatcmpl-%016llx\",\"object\":\"chat.completion\",\"created\":1760000000,\"model\":\"%s\",\"choices\":"
             "[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"@%06d:%016llu is when this was said, in an "
             "answer of a few words.\"},\"logprobs\":null,\"finish_reason\":\"stop\"}],"
             "\"usage\":{\"prompt_tokens\":120,\"completion_tokens\":%d,\"total_tokens\":%d}}",
             (unsigned long long)++streams, model, 0, (unsigned long long)now(), c->tokens, c->tokens + 120);
    add_answer(c, json);
}

/* Where the value of a key begins; NULL if it is nowhere. */
static const char *value_of(const char *body, const char *key) {
    for (const char *at = body; (at = strstr(at, key));) {
        at += strlen(key);
        const char *colon = at + strspn(at, " \t\r\n");
        if (*colon == ':') return colon + 1 + strspn(colon + 1, " \t\r\n");
    }
    return NULL;
}

static int is_true(const char *body, const char *key) {
    const char *value = value_of(body, key);
    return value && !strncmp(value, "true", 4);
}

static void answer(struct connection *c, int is_get, const char *body) {
    char model[64] = "", fault[8] = "";
    unsigned pause = 0;
    const char *value = value_of(body, "\"model\"");
    if (is_get) {
        add_answer(c, "{\"object\":\"list\",\"data\":[{\"id\":\"load-10-0\",\"object\":\"model\",\"owned_by\":\"load\"}]}");
    } else if (value && sscanf(value, "\"%63[a-z0-9-]\"", model) == 1 &&
               sscanf(model, "load-%d-%u-%7s", &c->tokens, &pause, fault) >= 2) {
        c->pause = pause;
        c->fault = fault[0];
        c->usage = is_true(body, "\"include_usage\"");
        if (is_true(body, "\"stream\"")) begin(c, model);
        else add_completion(c, model);
    } else {
        static const char refusal[] = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
        add(c, refusal, sizeof refusal - 1);
    }
}

/* Answer the request that has arrived, if all of it has. Pipelining is not for POST (RFC 9112, 9.3.2), so it is alone. */
static int answer_if_whole(struct connection *c) {
    c->in[c->read] = 0;
    char *end = memmem(c->in, c->read, "\r\n\r\n", 4);
    if (!end || c->streaming) return 1;
    char *length = strcasestr(c->in, "\ncontent-length:"), *close_it = strcasestr(c->in, "\nconnection: close");
    size_t body = length && length < end ? strtoul(length + 16, NULL, 10) : 0;
    if ((size_t)(end + 4 - c->in) + body > c->read) return 1;
    c->last = close_it && close_it < end;
    answer(c, !strncmp(c->in, "GET ", 4), end + 4);
    c->read = 0;
    return flush(c);
}

static void receive(struct connection *c) {
    if (c->read + 16384 + 1 > c->room) c->in = grown(c->in, c->room = 2 * (c->read + 16384 + 1));
    ssize_t got = recv(c->fd, c->in + c->read, c->room - c->read - 1, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0 || c->read > REQUEST) {
        hang_up(c);
        return;
    }
    c->read += (size_t)got;
    answer_if_whole(c);
}

/* The next token; after the last one the end. Whether the connection is still there. */
static int go_on(struct connection *c) {
    if (c->fault == 'c' && c->sent >= c->tokens / 2) return hang_up(c), 0;
    if (c->sent < c->tokens) add_token(c);
    if (c->sent >= c->tokens && c->pause) remove_due(c);
    if (c->sent >= c->tokens) add_end(c);
    return flush(c);
}

static void send_due(void) {
    uint64_t ignored, time = now();
    if (read(timer, &ignored, sizeof ignored) < 0 && errno != EAGAIN) perror("timer");
    while (heaped && heap[1]->due <= time) {
        struct connection *c = heap[1];
        c->due += c->sent ? c->pause : 1 + (uint64_t)random() % c->pause;
        settle(c, 1);
        go_on(c);
    }
    set_timer();
}

/* One token of each stream that nobody holds up. */
static void send_eager(void) {
    for (struct connection *c = eager, *next; c; c = next) {
        next = c->next;
        if (!c->blocked && go_on(c) && !c->streaming) leave_eager(c);
    }
}

static void welcome(int listener) {
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= FILES) {
            close(fd);
            continue;
        }
        struct connection *c = connections[fd] = grown(NULL, sizeof *c);
        *c = (struct connection){.fd = fd};
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
}

static int idle_wait(void) {
    for (struct connection *c = eager; c; c = c->next)
        if (!c->blocked) return 0;
    return -1;
}

int main(int count, char **arguments) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons((uint16_t)(count == 2 ? atoi(arguments[1]) : 0));
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (count != 2 || bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
        perror("usage: upstream PORT");
        return 2;
    }
    epoll = epoll_create1(0);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    for (int *fd = (int[]){listener, timer, -1}; *fd >= 0; fd++) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = *fd};
        epoll_ctl(epoll, EPOLL_CTL_ADD, *fd, &event);
    }
    static struct epoll_event events[BATCH];
    for (;;) {
        int ready = epoll_wait(epoll, events, BATCH, idle_wait());
        for (int i = 0; i < ready; i++) {
            struct connection *c = connections[events[i].data.fd];
            if (events[i].data.fd == listener) welcome(listener);
            else if (events[i].data.fd == timer) send_due();
            else if (c && (!(events[i].events & EPOLLOUT) || flush(c)) && events[i].events & ~EPOLLOUT) receive(c);
        }
        send_eager();
    }
}
