/* The express: plain events from upstreams' sockets to clients', without the interpreter and its lock.
 *
 * sseproxy.wsgi.relay does all of this in Python as well, and is the measure: what is read here is what the function of
 * Plain.listen() reads, under the same conditions, and what may be anything else is handed back as it came. Where this
 * is not built, everything works as it does here, at about twice the CPU an event.
 *
 * One thread makes all calls, the relay's. The interpreter's lock is given up while bytes are moved.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define READ_SIZE 65536
#define MAX_READY 256
#define MAX_DIGITS 6 /* of the size of an HTTP chunk */

/* One stream's place.
 *
 * opening, ending: what stands around the text of an event, to the end of its HTTP chunk
 * room:  bytes of text that may still pass
 * said:  the texts that have passed, in JSON, each with a comma behind it
 * times: when the reads came that brought them
 * sent:  bytes that the client has been sent */
typedef struct {
    int client;
    Py_ssize_t sent;
    PyObject *opening, *ending;
    Py_ssize_t room;
    char *said;
    size_t said_length, said_size;
    double *times;
    size_t times_length, times_size;
} Seat;

/* What a read brought that is not, or not all, for here: how many bytes of it are plain, how many of these were sent,
 * and the error that kept from more: the client's if any are plain, else the source's. */
typedef struct {
    int source;
    char *data;
    Py_ssize_t length, passed, sent;
    int error;
} Rest;

typedef struct {
    PyObject_HEAD
    Seat **seats; /* by the number of the source's socket */
    int size;
    char buffer[READ_SIZE];
    struct epoll_event ready[MAX_READY];
    int ready_length;
    Rest rests[MAX_READY];
    int rests_length;
} Express;

static Seat *seat_of(Express *self, int source)
{
    return source >= 0 && source < self->size ? self->seats[source] : NULL;
}

static void free_seat(Seat *seat)
{
    close(seat->client);
    Py_DECREF(seat->opening);
    Py_DECREF(seat->ending);
    free(seat->said);
    free(seat->times);
    free(seat);
}

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
static Py_ssize_t pass(Seat *seat, const char *data, Py_ssize_t length, double now)
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
        passed += chunk;
    }
    if (passed > 0)
        seat->times[seat->times_length++] = now;
    return passed;
}

/* Move what has come; whether all of it is moved. */
static int move_one(Express *self, Seat *seat, double now, Rest *rest)
{
    ssize_t length = recv(rest->source, self->buffer, READ_SIZE, MSG_DONTWAIT);
    if (length < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return 1;
    rest->error = length < 0 ? errno : 0;
    rest->length = length > 0 ? length : 0;
    rest->passed = pass(seat, self->buffer, rest->length, now);
    if (rest->passed > 0) {
        rest->sent = send(seat->client, self->buffer, rest->passed, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (rest->sent < 0) {
            rest->error = errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : errno;
            rest->sent = 0;
        }
        seat->sent += rest->sent;
        if (rest->sent == length)
            return 1;
    }
    rest->data = malloc(rest->length + 1);
    if (rest->data == NULL)
        rest->error = ENOMEM;
    else
        memcpy(rest->data, self->buffer, rest->length);
    return 0;
}

static double monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

/* Wait for sockets, and move what comes, until there is something else to do or the moment has come; 0, or an error. */
static int move_until(Express *self, int epoll, double until)
{
    double now = monotonic();
    self->rests_length = self->ready_length = 0;
    do {
        int wait = until > now ? (int)((until - now) * 1000) + 1 : 0;
        int count = epoll_wait(epoll, self->ready, MAX_READY, wait);
        if (count < 0)
            return errno == EINTR ? 0 : errno;
        now = monotonic();
        for (int i = 0; i < count; i++) {
            struct epoll_event event = self->ready[i];
            Rest rest = {.source = event.data.fd};
            Seat *seat = event.events == EPOLLIN ? seat_of(self, rest.source) : NULL;
            if (seat == NULL)
                self->ready[self->ready_length++] = event;
            else if (!move_one(self, seat, now, &rest))
                self->rests[self->rests_length++] = rest;
        }
    } while (self->rests_length == 0 && self->ready_length == 0 && now < until);
    return 0;
}

static PyObject *list_of_rests(Express *self)
{
    PyObject *list = PyList_New(self->rests_length);
    for (int i = 0; i < self->rests_length; i++) {
        Rest *rest = &self->rests[i];
        PyObject *item = list == NULL ? NULL
                                      : Py_BuildValue("iy#nni", rest->source, rest->data ? rest->data : "",
                                                      rest->data ? rest->length : 0, rest->passed, rest->sent, rest->error);
        free(rest->data);
        if (item != NULL)
            PyList_SET_ITEM(list, i, item);
        else
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *list_of_ready(Express *self)
{
    PyObject *list = PyList_New(self->ready_length);
    for (int i = 0; list != NULL && i < self->ready_length; i++) {
        PyObject *item = Py_BuildValue("iI", self->ready[i].data.fd, self->ready[i].events);
        if (item != NULL)
            PyList_SET_ITEM(list, i, item);
        else
            Py_CLEAR(list);
    }
    return list;
}

PyDoc_STRVAR(move_doc,
             "Wait for the sockets of an epoll, and move what comes, until there is something else to do or this moment\n"
             "(monotonic seconds) has come.\n\n"
             "Returns two lists. What was read and is not, or not all, for here: the source's socket, the bytes, how many\n"
             "of them are plain, how many of these were sent, and the error that kept from more, or 0. And all other\n"
             "sockets that something happened to, with their events, as epoll has them. Raises OSError.");

static PyObject *express_move(Express *self, PyObject *args)
{
    int epoll, error;
    double until;
    if (!PyArg_ParseTuple(args, "id", &epoll, &until))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    error = move_until(self, epoll, until);
    Py_END_ALLOW_THREADS
    if (error != 0) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    PyObject *rests = list_of_rests(self), *ready = list_of_ready(self);
    if (rests != NULL && ready != NULL)
        return Py_BuildValue("NN", rests, ready);
    Py_XDECREF(rests);
    Py_XDECREF(ready);
    return NULL;
}

PyDoc_STRVAR(board_doc,
             "Move what comes on a source's socket to a client's from now on, while it is plain.\n\n"
             "Takes the two sockets, what stands around the text of an event that is all of an HTTP chunk, behind its\n"
             "size, and how many bytes of text may pass. The client's socket is closed when its stream leaves: it is a\n"
             "duplicate, so that no other client can get its number meanwhile.");

/* A seat of this number; NULL, with an exception, if there can be none. */
static Seat *new_seat(Express *self, int source)
{
    if (source < 0 || seat_of(self, source) != NULL)
        return (Seat *)PyErr_Format(PyExc_ValueError, "socket %d cannot be moved, or is already", source);
    if (source >= self->size) {
        int size = source * 2 + 64;
        Seat **seats = realloc(self->seats, size * sizeof *seats);
        if (seats == NULL)
            return (Seat *)PyErr_NoMemory();
        memset(seats + self->size, 0, (size - self->size) * sizeof *seats);
        self->seats = seats;
        self->size = size;
    }
    Seat *seat = self->seats[source] = calloc(1, sizeof *seat);
    return seat != NULL ? seat : (Seat *)PyErr_NoMemory();
}

static PyObject *express_board(Express *self, PyObject *args)
{
    int source, client;
    PyObject *opening, *ending;
    Py_ssize_t room;
    if (!PyArg_ParseTuple(args, "iiSSn", &source, &client, &opening, &ending, &room))
        return NULL;
    Seat *seat = new_seat(self, source);
    if (seat == NULL) {
        close(client);
        return NULL;
    }
    seat->client = client;
    seat->opening = Py_NewRef(opening);
    seat->ending = Py_NewRef(ending);
    seat->room = room;
    Py_RETURN_NONE;
}

static PyObject *told(Seat *seat)
{
    PyObject *times = PyList_New(seat->times_length);
    for (size_t i = 0; times != NULL && i < seat->times_length; i++) {
        PyObject *time = PyFloat_FromDouble(seat->times[i]);
        if (time != NULL)
            PyList_SET_ITEM(times, i, time);
        else
            Py_CLEAR(times);
    }
    if (times == NULL)
        return NULL;
    PyObject *result = Py_BuildValue("y#Nn", seat->said ? seat->said : "", (Py_ssize_t)seat->said_length, times,
                                     seat->sent);
    if (result != NULL)
        seat->said_length = seat->times_length = seat->sent = 0;
    return result;
}

PyDoc_STRVAR(tell_doc,
             "What has passed since this was asked last: the texts in JSON, each with a comma behind it; when the reads\n"
             "came that brought them; how many bytes were sent. Raises KeyError for a socket that was not boarded.");

static PyObject *express_tell(Express *self, PyObject *args)
{
    int source;
    if (!PyArg_ParseTuple(args, "i", &source))
        return NULL;
    Seat *seat = seat_of(self, source);
    return seat != NULL ? told(seat) : PyErr_Format(PyExc_KeyError, "socket %d", source);
}

PyDoc_STRVAR(allow_doc, "Let so many bytes of a source's text pass from now on. Raises as tell().");

static PyObject *express_allow(Express *self, PyObject *args)
{
    int source;
    Py_ssize_t room;
    if (!PyArg_ParseTuple(args, "in", &source, &room))
        return NULL;
    Seat *seat = seat_of(self, source);
    if (seat == NULL)
        return PyErr_Format(PyExc_KeyError, "socket %d", source);
    seat->room = room;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(leave_doc, "Move no more of this source's; returns and raises as tell().");

static PyObject *express_leave(Express *self, PyObject *args)
{
    int source;
    if (!PyArg_ParseTuple(args, "i", &source))
        return NULL;
    Seat *seat = seat_of(self, source);
    if (seat == NULL)
        return PyErr_Format(PyExc_KeyError, "socket %d", source);
    self->seats[source] = NULL; /* whatever happens: the next stream may get this number */
    PyObject *result = told(seat);
    free_seat(seat);
    return result;
}

static void express_dealloc(Express *self)
{
    for (int source = 0; source < self->size; source++)
        if (self->seats[source] != NULL)
            free_seat(self->seats[source]);
    free(self->seats);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef express_methods[] = {
    {"allow", (PyCFunction)express_allow, METH_VARARGS, allow_doc},
    {"board", (PyCFunction)express_board, METH_VARARGS, board_doc},
    {"leave", (PyCFunction)express_leave, METH_VARARGS, leave_doc},
    {"move", (PyCFunction)express_move, METH_VARARGS, move_doc},
    {"tell", (PyCFunction)express_tell, METH_VARARGS, tell_doc},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject ExpressType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "sseproxy.wsgi.express.Express",
    .tp_doc = PyDoc_STR("Moves plain events between sockets. For one thread."),
    .tp_basicsize = sizeof(Express),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
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
    PyObject *module = PyModule_Create(&express_module);
    if (module != NULL && PyModule_AddType(module, &ExpressType) < 0)
        Py_CLEAR(module);
    return module;
}
