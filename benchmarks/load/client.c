/* Load for a proxy in front of upstream.c: so many clients at once, every answer checked, every token timed.
 *
 *   client -a 127.0.0.1:PORT -b BODY [options]
 *     -c N       clients at once, each with a connection of its own that it keeps (1)
 *     -d S       begin no request after so many seconds (5)
 *     -m S       whole_in_time: what was whole after so many seconds (0), and before those of -d were over
 *     -r N       nor more than so many in all (no limit)
 *     -t N       tokens of a whole answer (1)
 *     -s         answers are streams
 *     -g S       let the clients begin spread over so many seconds (0)
 *     -q US      look for input at most once in so many microseconds: leaves the CPU to others (0)
 *     -T S       give an answer up after so many seconds (30)
 *     -w S       a 503 with Retry-After is a refusal and no error: wait as told, but at most so long (1)
 *     -H LINE    a header, NAME: VALUE; as often as needed
 *     -u PATH    (/v1/chat/completions)
 *
 * Prints one JSON object; all times in microseconds. The exit code is 0 also when answers were wrong.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { LINE = 4096, HEAD = 8192, BATCH = 512, READ = 256 * 1024 };
enum fault { CONNECT, DROPPED, STATUS, MALFORMED, INCOMPLETE, TIMEOUT, FAULTS };
enum state { RESTING, ASKING, READING_HEAD, READING_BODY };
enum framing { UNTIL_CLOSE, BY_LENGTH, CHUNKED };
enum chunk { SIZE, DATA, AFTER_DATA, TRAILER };

static const char *const fault_names[] = {"connect", "dropped", "status", "malformed", "incomplete", "timeout"};

struct client {
    int fd, used, status, tokens, wrong, done, finished, close, wait;
    enum state state;
    enum framing framing;
    enum chunk chunk;
    uint64_t begun, rests_until;
    size_t sent, left, head_length, line_length, digits, trailer;
    char head[HEAD + 1], line[LINE];
};
struct times {
    uint32_t *of;
    size_t count, room;
};

static struct client *clients;
static struct times events, firsts, answers;
static struct sockaddr_in address;
static char *request;
static size_t request_length;
static int epoll, number = 1, tokens = 1, streaming, nap;
static long limit = -1, begun, running, whole, in_time, refused, faults[FAULTS], with_usage, first_status;
static double seconds = 5, settling, spread, patience = 30, longest_wait = 1;
static uint64_t deadline, settled;

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

/* ---- figures */

static void note(struct times *times, uint64_t from, uint64_t to) {
    if (times->count == times->room) {
        times->of = realloc(times->of, (times->room = 2 * times->room + 4096) * sizeof *times->of);
        if (!times->of) exit(1);
    }
    times->of[times->count++] = to > from ? (uint32_t)(to - from) : 0;
}

static int compare(const void *one, const void *other) {
    uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;
    return (a > b) - (a < b);
}

static void print_times(const char *name, struct times *times) {
    if (times->count) qsort(times->of, times->count, sizeof *times->of, compare);
    size_t end = times->count ? times->count - 1 : 0;
    uint32_t p50 = times->count ? times->of[end / 2] : 0, p99 = times->count ? times->of[end * 99 / 100] : 0;
    printf("\"%s\":{\"count\":%zu,\"p50\":%u,\"p99\":%u},", name, times->count, p50, p99);
}

static void print_result(uint64_t start, uint64_t end) {
    long errors = 0;
    for (int fault = 0; fault < FAULTS; fault++) errors += faults[fault];
    printf("{\"clients\":%d,\"seconds\":%.4f,\"whole\":%ld,\"whole_in_time\":%ld,\"refused\":%ld,\"with_usage\":%ld,", number,
           (double)(end - start) / 1e6, whole, in_time, refused, with_usage);
    print_times("event", &events);
    print_times("first", &firsts);
    print_times("answer", &answers);
    printf("\"errors\":%ld,\"first_bad_status\":%ld,\"faults\":{", errors, first_status);
    for (int fault = 0; fault < FAULTS; fault++)
        printf("%s\"%s\":%ld", fault ? "," : "", fault_names[fault], faults[fault]);
    printf("}}\n");
}

/* ---- one client's requests */

static void disconnect(struct client *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}

static void rest(struct client *c, double time) {
    c->state = RESTING;
    c->rests_until = now() + (uint64_t)(time * 1e6);
    running--;
}

static void fail(struct client *c, enum fault fault) {
    faults[fault]++;
    disconnect(c);
    rest(c, 0.05);
}

static void ask(struct client *c) {
    while (c->sent < request_length) {
        ssize_t sent = send(c->fd, request + c->sent, request_length - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN) return;
        if (sent < 0) {
            fail(c, c->used ? DROPPED : CONNECT);
            return;
        }
        c->sent += (size_t)sent;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event);
    c->state = READING_HEAD;
}

static int may_begin(uint64_t time) {
    return time < deadline && (limit < 0 || begun < limit);
}

static void begin(struct client *c) {
    int fd = c->fd, used = fd >= 0, on = 1;
    memset(c, 0, offsetof(struct client, head));
    c->fd = fd;
    c->used = used;
    c->state = ASKING;
    c->begun = now();
    begun++;
    running++;
    if (used) {
        ask(c);
        return;
    }
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = c};
    if (c->fd < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) ||
        (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS))
        fail(c, CONNECT);
}

static void end(struct client *c) {
    uint64_t time = now();
    if (c->close) disconnect(c);
    if (c->status == 503 && c->wait >= 0) {
        refused++;
        rest(c, c->wait < longest_wait ? c->wait : longest_wait);
    } else if (c->status != 200) {
        if (!first_status) first_status = c->status;
        fail(c, STATUS);
    } else if (c->wrong || c->tokens != tokens || (streaming && !(c->done && c->finished))) {
        fail(c, INCOMPLETE);
    } else {
        whole++;
        if (time >= settled && time <= deadline) in_time++;
        note(&answers, c->begun, time);
        rest(c, 0);
        if (may_begin(time)) begin(c);
    }
}

/* ---- reading answers */

/* Tokens are @NUMBER:TIME, see upstream.c. A proxy may put several in one event, but must keep their order. */
static void read_line(struct client *c, uint64_t time) {
    char *at = c->line;
    c->line[c->line_length] = 0;
    if (streaming && strncmp(at, "data:", 5)) return;
    if (streaming && !strncmp(at + 5 + (at[5] == ' '), "[DONE]", 6)) {
        c->done = 1;
        return;
    }
    while ((at = strchr(at, '@')) && strlen(at) >= 24 && at[7] == ':') {
        if (c->done || strtol(at + 1, NULL, 10) != c->tokens) c->wrong = 1;
        if (!c->tokens++) note(&firsts, c->begun, time);
        note(&events, strtoull(at + 8, NULL, 10), time);
        at += 24;
    }
    if (strstr(c->line, "\"stop\"")) c->finished = 1;
    if (strstr(c->line, "\"completion_tokens\"")) with_usage++;
}

static int read_body(struct client *c, const char *bytes, size_t length, uint64_t time) {
    while (length) {
        const char *newline = memchr(bytes, '\n', length);
        size_t part = newline ? (size_t)(newline - bytes) : length;
        if (c->line_length + part >= LINE) return 0;
        memcpy(c->line + c->line_length, bytes, part);
        c->line_length += part;
        if (!newline) return 1;
        if (c->status == 200) read_line(c, time);
        c->line_length = 0;
        bytes += part + 1;
        length -= part + 1;
    }
    return 1;
}

/* Bytes of the head among these, 0 if it goes on after them, -1 if it is none. */
static long read_head(struct client *c, const char *bytes, size_t length) {
    size_t before = c->head_length, part = length < HEAD - before ? length : HEAD - before;
    memcpy(c->head + before, bytes, part);
    c->head_length += part;
    c->head[c->head_length] = 0;
    char *close = strstr(c->head, "\r\n\r\n"), *value;
    if (!close) return c->head_length < HEAD ? 0 : -1;
    close[2] = 0;
    if (sscanf(c->head, "HTTP/1.%*d %d", &c->status) != 1) return -1;
    c->framing = UNTIL_CLOSE;
    if ((value = strcasestr(c->head, "\ncontent-length:"))) c->framing = BY_LENGTH, c->left = strtoul(value + 16, NULL, 10);
    if (strcasestr(c->head, "\ntransfer-encoding: chunked")) c->framing = CHUNKED, c->left = 0;
    c->close = c->framing == UNTIL_CLOSE || strcasestr(c->head, "\nconnection: close") || !strncmp(c->head, "HTTP/1.0", 8);
    c->wait = (value = strcasestr(c->head, "\nretry-after:")) ? atoi(value + 13) : -1;
    c->state = READING_BODY;
    return (long)((size_t)(close + 4 - c->head) - before);
}

static int hex(char digit) {
    const char *digits = "0123456789abcdef", *at = digit ? strchr(digits, digit | (digit > '9' ? 32 : 0)) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* The line of a chunk's size or of a trailer, byte by byte: 1 at the end of the body, -1 if it is wrong. */
static int read_chunk_line(struct client *c, char byte) {
    if (byte == '\r') return 0;
    if (c->chunk == TRAILER) {
        if (byte == '\n' && !c->trailer) return 1;
        c->trailer = byte == '\n' ? 0 : c->trailer + 1;
    } else if (c->chunk == AFTER_DATA) {
        if (byte != '\n') return -1;
        c->chunk = SIZE;
    } else if (byte == '\n') {
        if (!c->digits) return -1;
        c->digits = 0;
        c->chunk = c->left ? DATA : TRAILER;
    } else {
        if (hex(byte) < 0 || c->digits++ > 7) return -1;
        c->left = c->left * 16 + (size_t)hex(byte);
    }
    return 0;
}

/* 1 at the end of the answer, -1 if it is no HTTP. */
static int feed(struct client *c, const char *bytes, size_t length, uint64_t time) {
    if (c->state == READING_HEAD) {
        long head = read_head(c, bytes, length);
        if (head <= 0) return (int)head;
        bytes += head;
        length -= (size_t)head;
    }
    while (length) {
        if (c->framing == CHUNKED && c->chunk != DATA) {
            int result = read_chunk_line(c, *bytes++);
            length--;
            if (result) return result > 0 && length ? -1 : result;
            continue;
        }
        size_t part = c->framing == UNTIL_CLOSE || length < c->left ? length : c->left;
        if (!part || !read_body(c, bytes, part, time)) return -1;
        bytes += part;
        length -= part;
        if (c->framing != UNTIL_CLOSE && !(c->left -= part)) {
            if (c->framing == BY_LENGTH) return length ? -1 : 1;
            c->chunk = AFTER_DATA;
        }
    }
    return c->framing == BY_LENGTH && !c->left;
}

static void receive(struct client *c) {
    static char bytes[READ];
    ssize_t got = recv(c->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    int result = 0;
    if (got < 0 && errno == EAGAIN) return;
    if (c->state == RESTING) { /* the server closes a connection that is not used */
        disconnect(c);
        return;
    }
    if (got > 0) result = feed(c, bytes, (size_t)got, now());
    else if (!got && c->state == READING_BODY && c->framing == UNTIL_CLOSE) result = 1;
    else if (c->used && !c->head_length && c->state != READING_BODY) { /* so it may: ask again, on a new one */
        disconnect(c);
        begun--;
        rest(c, 0);
    } else fail(c, DROPPED);
    if (result < 0) fail(c, MALFORMED);
    if (result > 0 && c->line_length && c->status == 200) read_line(c, now());
    if (result > 0) end(c);
}

/* Begin what is to begin and give up what takes too long. Whether there is anything left to wait for. */
static int look_around(void) {
    uint64_t time = now();
    for (struct client *c = clients; c < clients + number; c++) {
        if (c->state != RESTING && time - c->begun > (uint64_t)(patience * 1e6)) fail(c, TIMEOUT);
        if (c->state == RESTING && c->rests_until <= time && may_begin(time)) begin(c);
    }
    return running || may_begin(time);
}

/* The upstream has the same CPU: hand it over often, lest a whole turn of the scheduler be in the times. Linux 6.12. */
static void take_short_turns(void) {
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t turn, deadline, period;
    } wanted = {.size = sizeof wanted, .turn = 100 * 1000};
    syscall(SYS_sched_setattr, 0, &wanted, 0);
}

static char *read_file(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    char *bytes = malloc(1 << 20);
    if (!file || !bytes) {
        perror(path);
        exit(2);
    }
    *length = fread(bytes, 1, 1 << 20, file);
    fclose(file);
    return bytes;
}

static void run(void) {
    static struct epoll_event ready[BATCH];
    uint64_t looked = 0;
    for (;;) {
        if (now() - looked >= 1000) {
            if (!look_around()) return;
            looked = now();
        }
        if (nap) usleep((useconds_t)nap);
        int count = epoll_wait(epoll, ready, BATCH, 1);
        for (int i = 0; i < count; i++) {
            struct client *c = ready[i].data.ptr;
            if (c->state == ASKING) ask(c);
            else receive(c);
        }
    }
}

int main(int count, char **arguments) {
    char headers[4096] = "", host[64] = "", *body = NULL;
    const char *path = "/v1/chat/completions";
    int option, port = 0;
    size_t length = 0;
    while ((option = getopt(count, arguments, "a:b:c:d:m:r:t:sg:q:T:w:H:u:")) != -1) {
        if (option == 'a') sscanf(optarg, "%63[0-9.]:%d", host, &port);
        else if (option == 'b') body = read_file(optarg, &length);
        else if (option == 'c') number = atoi(optarg);
        else if (option == 'd') seconds = atof(optarg);
        else if (option == 'm') settling = atof(optarg);
        else if (option == 'r') limit = atol(optarg);
        else if (option == 't') tokens = atoi(optarg);
        else if (option == 's') streaming = 1;
        else if (option == 'g') spread = atof(optarg);
        else if (option == 'q') nap = atoi(optarg);
        else if (option == 'T') patience = atof(optarg);
        else if (option == 'w') longest_wait = atof(optarg);
        else if (option == 'u') path = optarg;
        else if (option == 'H') strncat(strncat(headers, optarg, 1024), "\r\n", 3);
        else return 2;
    }
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)port);
    if (!body || !inet_aton(host, &address.sin_addr) || number < 1) {
        fprintf(stderr, "client: -a ADDRESS:PORT and -b FILE are needed; see client.c\n");
        return 2;
    }
    request = malloc(length + 8192);
    int head = snprintf(request, 8192,
                        "POST %s HTTP/1.1\r\nHost: %s:%d\r\nContent-Type: application/json\r\nAccept: */*\r\n"
                        "Content-Length: %zu\r\n%s\r\n", path, host, port, length, headers);
    memcpy(request + head, body, length);
    request_length = (size_t)head + length;
    take_short_turns();
    epoll = epoll_create1(0);
    clients = calloc((size_t)number, sizeof *clients);
    uint64_t start = now();
    deadline = start + (uint64_t)(seconds * 1e6);
    settled = start + (uint64_t)(settling * 1e6);
    for (int i = 0; i < number; i++)
        clients[i].fd = -1, clients[i].rests_until = start + (uint64_t)(spread * 1e6 * i / number);
    run();
    print_result(start, now());
    return 0;
}
