"""PEP 3333 for all middlewares, and the fast path of a stream, which has its own terms:

* lane: lets plain chunks bypass the stream's iterator; on every server.
* passage: moves bytes from the upstream's socket to the client's, through the lane or through the iterator.
* ride: a passage that another thread moves while the stream's own thread sleeps. A stream boards where the server
  offers a ride; a ride that is grounded has ended for good, because its client closed.
* relay: the one thread of a process that moves rides, with epoll.
* express: ``express.c``, a thread that moves plain events without the interpreter; each ride on it holds a seat.
"""
