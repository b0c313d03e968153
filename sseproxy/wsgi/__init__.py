"""What PEP 3333 asks of an application, once for all middlewares; and a stream's fast path, which has its own words.

* lane: the way of plain chunks around the stream's iterator; on every server.
* passage: what becomes of the bytes that are read from the upstream's socket: to the client's, by the lane or not.
* ride: a passage that others see to while the stream's own thread sleeps. To board is to be given to one, where the
  server offers that; a ride that is grounded ends for good, for its client has closed.
* relay: the one thread of a process that moves rides, with epoll.
* express: ``express.c``, a thread that moves plain events without the interpreter; each ride on it holds a seat.
"""
