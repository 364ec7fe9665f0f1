"""`UserError`: a fault that the user can fix, in one line. Other errors keep a traceback."""


class UserError(ValueError):
    """The message names the thing and what to do about it."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if the message is empty."""
    first = (str(error).strip() or type(error).__name__).split("\n")[0]
    # torch then suggests a setting that could run code
    return first.partition(". In PyTorch 2.6")[0]


def one_line(error: BaseException) -> str:
    """Return the message of an error on one line; YAML errors have several."""
    return " ".join(str(error).split())


def told(error: BaseException) -> str:
    """The message of an error in one piece, also where a process of a DataLoader raised it."""
    text = str(error)
    if text.startswith("Caught ") and "DataLoader worker" in text:  # torch sends the traceback too
        return text.rsplit(f"{type(error).__name__}: ", 1)[-1].strip()
    return text
