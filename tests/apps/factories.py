"""Apps in the forms an APP argument can take."""


class Namespace:
    pass


def _saying(text):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [text.encode()]

    return app


def create(name="nobody"):
    """A factory."""
    return _saying(f"made for {name}")


application = _saying("the default attribute")
holder = Namespace()
holder.inner = _saying("a dotted attribute")
not_callable = 42


def fails():
    raise RuntimeError("the factory failed")


class Handler:
    """A callable object, as Django's own handler is."""

    def __call__(self, environ, start_response):
        return _saying("an instance")(environ, start_response)


instance = Handler()
