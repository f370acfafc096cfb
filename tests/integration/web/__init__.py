"""The HTTP side over real sockets, with small typed fakes of what lies below it."""
