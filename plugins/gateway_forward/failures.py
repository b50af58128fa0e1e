"""What goes wrong with a request, in words that have nothing of the event, of the URL's path, or of the answer."""


class ForwardFailed(Exception):
    """The event was not taken: it is delivered again."""

    loggable = True
