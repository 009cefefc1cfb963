"""Redis by way of a Swift library with threads and a pool of connections inside; its host forks when it likes. Python 3.9 or later."""

import ctypes

MISSING = 1


class Error(Exception):
    """What a call was refused with: a code and its words."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Redis:
    """A client. Any thread; in a forked child, whoever forked it, the one that it inherited goes on."""

    def __init__(self, library, server, refreshers=2, pause_microseconds=1000):
        self._library = ctypes.CDLL(library)  # RTLD_LOCAL: nobody else sees its symbols
        self._library.hosted_redis_message.restype = ctypes.c_char_p
        host, port = server.rsplit(":", 1)
        self._handle = ctypes.c_void_p()
        self._call("open", host.encode(), int(port), refreshers, pause_microseconds, ctypes.byref(self._handle))

    def get(self, key):
        return self._text("get", key)

    def recent(self, key):
        """What the refreshers saw last."""
        return self._text("recent", key)

    def set(self, key, value):
        self._call("set", self._handle, key.encode(), value.encode())

    def incr(self, key):
        value = ctypes.c_int64()
        self._call("incr", self._handle, key.encode(), ctypes.byref(value))
        return value.value

    def counts(self):
        """How many answers the refreshers of this process have had, right and wrong."""
        right, wrong = ctypes.c_int64(), ctypes.c_int64()
        self._call("counts", self._handle, ctypes.byref(right), ctypes.byref(wrong))
        return right.value, wrong.value

    def close(self):
        self._call("close", self._handle)
        self._handle = None

    def _text(self, function, key):
        buffer = ctypes.create_string_buffer(4096)
        try:
            self._call(function, self._handle, key.encode(), buffer, ctypes.c_size_t(len(buffer)))
        except Error as error:
            if error.code == MISSING:
                return None
            raise
        return buffer.value.decode(errors="replace")

    def _call(self, function, *arguments):
        code = getattr(self._library, "hosted_redis_" + function)(*arguments)
        if code != 0:
            raise Error(code, self._library.hosted_redis_message().decode(errors="replace"))
