/* The express: plain events from upstreams' sockets to clients', without the interpreter and its lock.
 *
 * sseproxy.wsgi.relay does all of this in Python as well, and is the measure: what is read here is what the function of
 * Plain.listen() reads, under the same conditions, and what may be anything else is handed back as it came. Where this
 * is not built, everything works as it does here, at about twice the CPU an event.
 *
 * One thread of its own moves all streams, and never waits for the interpreter. A stream's own thread sleeps meanwhile.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define READ_SIZE 65536
#define MAX_READY 256
#define MAX_DIGITS 6 /* of the size of an HTTP chunk */
#define SWEEP 0.05   /* seconds between two looks at for whom it is time */
#define PRIORITY -15 /* of the thread: streams that run go before those that begin */
#define REST 0.001   /* seconds between two looks at the sockets: what comes meanwhile is moved at one go */

/* What a read brought that is not, or not all, for here.
 *
 * passed: how many bytes of it, from the first, are plain
 * sent:   how many of these were sent
 * error:  what kept from more, or 0: the client's if any are plain, else the source's; ENOMEM: data is lost */
typedef struct {
    char *data;
    Py_ssize_t length, passed, sent;
    int error;
} Rest;

typedef struct Seat Seat;

/* lock:   held by whoever touches what follows it, or a seat
 * seats:  by the number of the source's socket
 * number: of the seat that was taken last */
typedef struct {
    PyObject_HEAD
    int epoll, bell;
    char buffer[READ_SIZE];
    pthread_mutex_t lock;
    pthread_t thread;
    int is_running, is_closed;
    Seat **seats;
    int size;
    uint32_t number;
} Express;

/* One stream's place. Its own thread waits here, and owns all of it once it is over.
 *
 * opening, ending: what stands around the text of an event, to the end of its HTTP chunk
 * unlike:   what the next text must not begin with, with its first quote
 * beware:   how many bytes that is; 0 when one has passed
 * room:     bytes of text that may still pass
 * until:    the moment at which its thread wants to look up (monotonic seconds)
 * patience: seconds of silence after which it is over
 * heard:    when something came last
 * said:     the texts that have passed, in JSON, each with a comma behind it
 * times:    when the reads came that brought them
 * sent:     bytes that the client has been sent
 * bell:     posted when the thread is to look up */
struct Seat {
    PyObject_HEAD
    Express *express;
    int source, client;
    uint32_t number;
    PyObject *opening, *ending, *unlike;
    Py_ssize_t beware, room, sent;
    double until, patience, heard;
    char *said;
    size_t said_length, said_size;
    double *times;
    size_t times_length, times_size;
    Rest rest;
    int is_over, has_left, has_rest;
    sem_t bell;
};

/* How many bytes, from the first, are one UTF-8 character beyond ASCII that needs no escape (see core.chunk.guard). */
static Py_ssize_t character(const unsigned char *text, Py_ssize_t length)
{
    static const struct { unsigned char first, last, low, high; Py_ssize_t length; } kinds[] = {
        {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
        {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
        {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (*text < kinds[i].first || *text > kinds[i].last)
            continue;
        if (length < kinds[i].length || text[1] < kinds[i].low || text[1] > kinds[i].high)
            return 0;
        for (Py_ssize_t at = 2; at < kinds[i].length; at++)
            if ((text[at] & 0xc0) != 0x80)
                return 0;
        if (memcmp(text, "\xc2\x85", 2) == 0)
            return 0;
        if (kinds[i].length == 3 && (memcmp(text, "\xe2\x80\xa8", 3) == 0 || memcmp(text, "\xe2\x80\xa9", 3) == 0))
            return 0;
        return kinds[i].length;
    }
    return 0;
}

/* Whether this is what may stand between the quotes of a JSON string, and needs no escape. */
static int is_text(const unsigned char *text, Py_ssize_t length)
{
    for (Py_ssize_t at = 0; at < length;) {
        unsigned char here = text[at];
        if (here >= 0x80) {
            Py_ssize_t bytes = character(text + at, length - at);
            if (bytes == 0)
                return 0;
            at += bytes;
        } else if (here == '\\') {
            if (at + 1 == length || text[at + 1] == 0 || strchr("\"\\/bfnrt", text[at + 1]) == NULL)
                return 0;
            at += 2;
        } else if (here < 0x20 || here == '"' || (here == ':' && at >= 4 && memcmp(text + at - 4, "data: ", 6) == 0)) {
            return 0;
        } else {
            at++;
        }
    }
    return 1;
}

/* How many bytes, from the first, are an HTTP chunk (RFC 9112 section 7.1) with a plain event in it. Its text is *text,
 * with its quotes. */
static Py_ssize_t plain_chunk(const Seat *seat, const char *data, Py_ssize_t length, const char **text, Py_ssize_t *said)
{
    const char *opening = PyBytes_AS_STRING(seat->opening), *ending = PyBytes_AS_STRING(seat->ending);
    Py_ssize_t before = PyBytes_GET_SIZE(seat->opening), after = PyBytes_GET_SIZE(seat->ending);
    Py_ssize_t size = 0, at = 0;
    for (; at < MAX_DIGITS && at < length; at++) {
        char digit = data[at];
        if (digit >= '0' && digit <= '9')
            size = size * 16 + digit - '0';
        else if (digit >= 'a' && digit <= 'f')
            size = size * 16 + digit - 'a' + 10;
        else
            break;
    }
    if (at == 0 || data[0] == '0' || length - at < 2 || data[at] != '\r' || data[at + 1] != '\n')
        return 0;
    at += 2;
    size += 2; /* the end of the chunk's line belongs to the ending */
    *said = size - before - after;
    if (*said < 3 || *said - 2 > seat->room || length - at < size)
        return 0;
    *text = data + at + before;
    if (memcmp(data + at, opening, before) != 0 || memcmp(*text + *said, ending, after) != 0)
        return 0;
    if (seat->beware > 0 && *said > seat->beware && memcmp(*text, PyBytes_AS_STRING(seat->unlike), seat->beware) == 0)
        return 0;
    if (**text != '"' || (*text)[*said - 1] != '"' || !is_text((const unsigned char *)*text + 1, *said - 2))
        return 0;
    return at + size;
}

/* Room for so many more elements; 0: there is no memory. */
static int make_room(void **items, size_t *size, size_t length, size_t more, size_t each)
{
    if (length + more <= *size)
        return 1;
    size_t wanted = (length + more) * 2;
    void *grown = realloc(*items, wanted * each);
    if (grown == NULL)
        return 0;
    *items = grown;
    *size = wanted;
    return 1;
}

/* Pass on what is plain at the beginning of a read; how much that is. Nothing, where there is no memory to note it. */
static Py_ssize_t pass(Seat *seat, const char *data, Py_ssize_t length)
{
    Py_ssize_t passed = 0, said, chunk;
    const char *text;
    if (!make_room((void **)&seat->times, &seat->times_size, seat->times_length, 1, sizeof(double)))
        return 0;
    while ((chunk = plain_chunk(seat, data + passed, length - passed, &text, &said)) > 0) {
        if (!make_room((void **)&seat->said, &seat->said_size, seat->said_length, said + 1, 1))
            break;
        memcpy(seat->said + seat->said_length, text, said);
        seat->said[seat->said_length + said] = ',';
        seat->said_length += said + 1;
        seat->room -= said - 2;
        seat->beware = 0;
        passed += chunk;
    }
    if (passed > 0)
        seat->times[seat->times_length++] = seat->heard;
    return passed;
}

/* Move what has come; whether all of it is moved. */
static int move(Seat *seat, char *buffer, double now)
{
    Rest *rest = &seat->rest;
    ssize_t length = recv(seat->source, buffer, READ_SIZE, MSG_DONTWAIT);
    if (length < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return 1;
    *rest = (Rest){.error = length < 0 ? errno : 0, .length = length > 0 ? length : 0};
    if (length > 0)
        seat->heard = now;
    rest->passed = pass(seat, buffer, rest->length);
    if (rest->passed > 0) {
        rest->sent = send(seat->client, buffer, rest->passed, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (rest->sent < 0) {
            rest->error = errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : errno;
            rest->sent = 0;
        }
        seat->sent += rest->sent;
        if (rest->sent == length)
            return 1;
    }
    seat->has_rest = 1;
    rest->data = malloc(rest->length + 1);
    if (rest->data == NULL)
        rest->error = ENOMEM;
    else
        memcpy(rest->data, buffer, rest->length);
    return 0;
}

static double monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

/* Watch a socket for a seat. The seat's number tells what happens to it from what happened to another one before. */
static int watch(Express *self, const Seat *seat, int socket, int is_client)
{
    struct epoll_event event = {.events = is_client ? EPOLLRDHUP : EPOLLIN};
    event.data.u64 = (uint64_t)seat->number << 32 | (uint64_t)seat->source << 1 | is_client;
    return epoll_ctl(self->epoll, EPOLL_CTL_ADD, socket, &event);
}

/* Move nothing for this seat any more. */
static void finish(Express *self, Seat *seat)
{
    self->seats[seat->source] = NULL;
    epoll_ctl(self->epoll, EPOLL_CTL_DEL, seat->source, NULL);
    epoll_ctl(self->epoll, EPOLL_CTL_DEL, seat->client, NULL);
    seat->is_over = 1;
    sem_post(&seat->bell);
}

/* See to what happened to a socket. */
static void see_to(Express *self, uint64_t data, double now)
{
    int source = (uint32_t)data >> 1;
    Seat *seat = source < self->size ? self->seats[source] : NULL;
    if (seat == NULL || seat->number != data >> 32)
        return;
    if (data & 1)
        seat->has_left = 1;
    if (seat->has_left || !move(seat, self->buffer, now))
        finish(self, seat);
}

/* See to those for whom it is time. */
static void sweep(Express *self, double now)
{
    for (int source = 0; source < self->size; source++) {
        Seat *seat = self->seats[source];
        if (seat == NULL)
            continue;
        /* What has come while this thread itself stood still (SIGSTOP, a frozen container) is no silence. */
        int is_silent = now - seat->heard > seat->patience;
        if (self->is_closed || (is_silent && (!move(seat, self->buffer, now) || seat->heard != now))) {
            finish(self, seat);
        } else if (now >= seat->until) {
            seat->until = INFINITY;
            sem_post(&seat->bell);
        }
    }
}

/* Rest until a moment. Each wake-up costs more than an event, and takes the core from whom it wakes up beside. */
static void rest(double until)
{
    double left = until - monotonic();
    if (left > 0)
        nanosleep(&(struct timespec){.tv_nsec = (long)(left * 1e9)}, NULL);
}

static void *run(void *express)
{
    Express *self = express;
    struct epoll_event ready[MAX_READY];
    setpriority(PRIO_PROCESS, 0, PRIORITY); /* of this thread alone, if that is allowed */
    double now = monotonic(), sweep_at = now + SWEEP;
    for (int is_closed = 0; !is_closed; rest(now + REST)) {
        int count = epoll_wait(self->epoll, ready, MAX_READY, sweep_at > now ? (int)((sweep_at - now) * 1000) + 1 : 0);
        now = monotonic();
        for (int i = 0; i < count; i++) { /* who waits for the lock may hold the interpreter's */
            pthread_mutex_lock(&self->lock);
            see_to(self, ready[i].data.u64, now);
            pthread_mutex_unlock(&self->lock);
        }
        pthread_mutex_lock(&self->lock);
        is_closed = self->is_closed;
        if (now >= sweep_at || is_closed) {
            sweep(self, now);
            sweep_at = now + SWEEP;
        }
        pthread_mutex_unlock(&self->lock);
    }
    return NULL;
}

/* Start the thread; 0, or an error. No signal is for it: the interpreter would not hear of it. */
static int start(Express *self)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&self->thread, NULL, run, self);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    self->is_running = error == 0;
    return error;
}

/* A place in the table; 0, or an error. */
static int reserve(Express *self, int source)
{
    if (source < 0)
        return EBADF;
    if (source >= self->size) {
        int size = source * 2 + 64;
        Seat **seats = realloc(self->seats, size * sizeof *seats);
        if (seats == NULL)
            return ENOMEM;
        memset(seats + self->size, 0, (size - self->size) * sizeof *seats);
        self->seats = seats;
        self->size = size;
    }
    return self->seats[source] == NULL ? 0 : EEXIST;
}

/* Move what comes for a seat from now on; 0, or an error. */
static int begin(Express *self, Seat *seat)
{
    int error = self->is_closed ? ECANCELED : reserve(self, seat->source);
    if (error == 0 && !self->is_running)
        error = start(self);
    if (error != 0)
        return error;
    seat->number = ++self->number;
    if (watch(self, seat, seat->client, 1) != 0)
        return errno;
    if (watch(self, seat, seat->source, 0) != 0) {
        error = errno;
        epoll_ctl(self->epoll, EPOLL_CTL_DEL, seat->client, NULL);
        return error;
    }
    self->seats[seat->source] = seat;
    seat->is_over = 0;
    return 0;
}

static PyObject *list_of_times(const double *times, size_t length)
{
    PyObject *list = PyList_New(length);
    for (size_t i = 0; list != NULL && i < length; i++) {
        PyObject *time = PyFloat_FromDouble(times[i]);
        if (time != NULL)
            PyList_SET_ITEM(list, i, time);
        else
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *rest_of(const Seat *seat)
{
    const Rest *rest = &seat->rest;
    if (!seat->has_rest)
        Py_RETURN_NONE;
    return Py_BuildValue("y#nni", rest->data ? rest->data : "", rest->data ? rest->length : 0, rest->passed, rest->sent,
                         rest->error);
}

PyDoc_STRVAR(wait_doc,
             "Wait until the stream's thread is to look up: at this moment (monotonic seconds), or when it is over.\n\n"
             "Takes how many bytes of text may pass, from what was told last, too.\n\n"
             "Returns what has passed since: the texts in JSON, each with a comma behind it, when the reads came that\n"
             "brought them, and how many bytes were sent; whether it is over, and the client has closed its connection, at\n"
             "least one way; and, when it is over, what was read and is not, or not all, for here, or None: the bytes, how\n"
             "many of them are plain, how many of these were sent, and the error that kept from more, or 0.");

static PyObject *seat_wait(Seat *self, PyObject *args)
{
    Py_ssize_t room;
    double until;
    if (!PyArg_ParseTuple(args, "nd", &room, &until))
        return NULL;
    char *said;
    double *times;
    size_t said_length, times_length;
    Py_ssize_t sent;
    int is_over;
    Py_BEGIN_ALLOW_THREADS
    pthread_mutex_lock(&self->express->lock);
    self->room = room - (Py_ssize_t)self->said_length;
    self->until = until;
    pthread_mutex_unlock(&self->express->lock);
    while (sem_wait(&self->bell) != 0)
        ; /* interrupted by a signal */
    pthread_mutex_lock(&self->express->lock);
    said = self->said, said_length = self->said_length, sent = self->sent;
    times = self->times, times_length = self->times_length;
    is_over = self->is_over;
    self->said = NULL, self->said_length = self->said_size = self->sent = 0;
    self->times = NULL, self->times_length = self->times_size = 0;
    pthread_mutex_unlock(&self->express->lock);
    Py_END_ALLOW_THREADS
    if (is_over)
        sem_post(&self->bell); /* it stays so */
    PyObject *list = list_of_times(times, times_length), *rest = is_over ? rest_of(self) : Py_NewRef(Py_None);
    PyObject *result = list == NULL || rest == NULL
                           ? NULL
                           : Py_BuildValue("y#OnOOO", said ? said : "", (Py_ssize_t)said_length, list, sent,
                                           is_over ? Py_True : Py_False, self->has_left ? Py_True : Py_False, rest);
    Py_XDECREF(list);
    Py_XDECREF(rest);
    free(said);
    free(times);
    return result;
}

static void seat_dealloc(Seat *self)
{
    pthread_mutex_lock(&self->express->lock);
    if (!self->is_over)
        finish(self->express, self);
    pthread_mutex_unlock(&self->express->lock);
    Py_DECREF(self->express);
    Py_DECREF(self->opening);
    Py_DECREF(self->ending);
    Py_DECREF(self->unlike);
    free(self->said);
    free(self->times);
    free(self->rest.data);
    sem_destroy(&self->bell);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef seat_methods[] = {
    {"wait", (PyCFunction)seat_wait, METH_VARARGS, wait_doc},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject SeatType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "sseproxy.wsgi.express.Seat",
    .tp_doc = PyDoc_STR("One stream's place, which it leaves when it is over or nobody knows of it any more."),
    .tp_basicsize = sizeof(Seat),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)seat_dealloc,
    .tp_methods = seat_methods,
};

PyDoc_STRVAR(board_doc,
             "Move what comes on a source's socket to a client's while it is plain.\n\n"
             "Takes the two sockets, which stay open until it is over; what stands around the text of an event that is all\n"
             "of an HTTP chunk, behind its size; what the first text must not begin with, quote and all; how many bytes\n"
             "of text may pass; and after how many seconds in which nothing comes it is over. It is when something comes\n"
             "that is not plain, too, and by wake() and close().\n\n"
             "Returns the seat. Raises OSError if it cannot begin.");

static PyObject *express_board(Express *self, PyObject *args)
{
    int source, client;
    PyObject *opening, *ending, *unlike;
    Py_ssize_t room;
    double patience;
    if (!PyArg_ParseTuple(args, "iiSSSnd", &source, &client, &opening, &ending, &unlike, &room, &patience))
        return NULL;
    Seat *seat = PyObject_New(Seat, &SeatType);
    if (seat == NULL)
        return NULL;
    memset((char *)seat + sizeof(PyObject), 0, sizeof *seat - sizeof(PyObject));
    seat->express = (Express *)Py_NewRef(self);
    seat->opening = Py_NewRef(opening);
    seat->ending = Py_NewRef(ending);
    seat->unlike = Py_NewRef(unlike);
    seat->beware = PyBytes_GET_SIZE(unlike);
    seat->source = source;
    seat->client = client;
    seat->room = room;
    seat->patience = patience;
    seat->until = INFINITY;
    seat->heard = monotonic();
    seat->is_over = 1;
    sem_init(&seat->bell, 0, 0);
    pthread_mutex_lock(&self->lock);
    int error = begin(self, seat);
    pthread_mutex_unlock(&self->lock);
    if (error == 0)
        return (PyObject *)seat;
    Py_DECREF(seat);
    errno = error;
    return PyErr_SetFromErrno(PyExc_OSError);
}

PyDoc_STRVAR(wake_doc, "Have it be over with the stream of this source's socket, if it is here. From any thread.");

static PyObject *express_wake(Express *self, PyObject *args)
{
    int source;
    if (!PyArg_ParseTuple(args, "i", &source))
        return NULL;
    pthread_mutex_lock(&self->lock);
    if (source >= 0 && source < self->size && self->seats[source] != NULL)
        finish(self, self->seats[source]);
    pthread_mutex_unlock(&self->lock);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(close_doc, "Have it be over with all streams, and take no more. Idempotent.");

static PyObject *express_close(Express *self, PyObject *Py_UNUSED(args))
{
    pthread_mutex_lock(&self->lock);
    int was_running = self->is_running;
    self->is_closed = 1;
    self->is_running = 0;
    pthread_mutex_unlock(&self->lock);
    if (was_running) {
        eventfd_write(self->bell, 1);
        Py_BEGIN_ALLOW_THREADS
        pthread_join(self->thread, NULL);
        Py_END_ALLOW_THREADS
    }
    Py_RETURN_NONE;
}

static PyObject *express_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    Express *self = (Express *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    pthread_mutex_init(&self->lock, NULL);
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    self->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN};
    if (epoll_ctl(self->epoll, EPOLL_CTL_ADD, self->bell, &event) != 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void express_dealloc(Express *self)
{
    Py_XDECREF(express_close(self, NULL));
    close(self->epoll);
    close(self->bell);
    pthread_mutex_destroy(&self->lock);
    free(self->seats);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef express_methods[] = {
    {"board", (PyCFunction)express_board, METH_VARARGS, board_doc},
    {"close", (PyCFunction)express_close, METH_NOARGS, close_doc},
    {"wake", (PyCFunction)express_wake, METH_VARARGS, wake_doc},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject ExpressType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "sseproxy.wsgi.express.Express",
    .tp_doc = PyDoc_STR("Moves plain events between sockets, in a thread that the first stream starts."),
    .tp_basicsize = sizeof(Express),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = express_new,
    .tp_dealloc = (destructor)express_dealloc,
    .tp_methods = express_methods,
};

static struct PyModuleDef express_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "sseproxy.wsgi.express",
    .m_doc = "Plain events from upstreams' sockets to clients', without the interpreter and its lock.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit_express(void)
{
    PyObject *module = PyType_Ready(&SeatType) < 0 ? NULL : PyModule_Create(&express_module);
    if (module != NULL && PyModule_AddType(module, &ExpressType) < 0)
        Py_CLEAR(module);
    return module;
}
