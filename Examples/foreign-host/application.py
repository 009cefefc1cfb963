"""A WSGI application that answers from Redis. With `gunicorn --preload` the client is made in the master, and its workers are forks of it:

    HOSTED_REDIS_LIBRARY=libHostedRedis.so HOSTED_REDIS_SERVER=127.0.0.1:6379 gunicorn --preload --workers 4 application

/entry/N answers what was stored under N, /incr/KEY the new value of a counter; each begins with the worker's process id."""

import atexit
import os

import hosted_redis

ENTRIES = 64

redis = hosted_redis.Redis(os.environ["HOSTED_REDIS_LIBRARY"], os.environ["HOSTED_REDIS_SERVER"])
for number in range(ENTRIES):
    redis.set(f"hosted:{number}", f"value {number}")


@atexit.register
def say_counts():
    # At once: others print, too.
    os.write(1, "refreshers of {}: {} right, {} wrong\n".format(os.getpid(), *redis.counts()).encode())


def application(environ, start_response):
    words = environ["PATH_INFO"].split("/")
    try:
        if len(words) == 3 and words[1] == "entry":
            status, text = "200 OK", f"{os.getpid()} {redis.get('hosted:' + words[2])}"
        elif len(words) == 3 and words[1] == "incr":
            status, text = "200 OK", f"{os.getpid()} {redis.incr('hosted:counter:' + words[2])}"
        else:
            status, text = "404 Not Found", "nothing here"
    except hosted_redis.Error as error:
        status, text = "503 Service Unavailable", f"{error.code}: {error}"
    body = text.encode()
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
