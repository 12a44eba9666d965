"""What a text must not bring to a terminal: passwords and tokens, and what moves its cursor.

Every error line and every log goes through here.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Iterator
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

_SHOWN = "…"
# The names of the environment variables that hold an address, and of those that are a secret as a whole.
_ADDRESSES = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
    "SYNTHGAIN_MIRROR",
    *(name for proxy in ("http_proxy", "https_proxy", "all_proxy") for name in (proxy, proxy.upper())),
)
_SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_LEAST_LENGTH = 4  # a shorter one stands in half of all words
_EVERYWHERE = 8  # from this length on a secret is replaced inside of words as well

# An address of a file has no user. In any other with a ":" or "@" before its first "/", all before the last "@" may
# be user and password: one that was not percent-encoded holds any sign.
_SCHEME = r"\b(?!(?:sqlite|file)\b)([a-z][a-z0-9+.-]*://)"
_REPLACED = (
    (rf"{_SCHEME}(?=[^\s/?#\"<>]*[@:])[^\s\"<>]*@", rf"\1{_SHOWN}@"),
    (r"(?<![\w/.@-])[\w.+-]+:[^\s\\/\"'<>@][^\s\"'<>]*@(?=[\w\[])", f"{_SHOWN}@"),  # its scheme was forgotten
    # The address was cut off before its "@": what follows the colon is no port, nor the word in our own messages.
    (rf"{_SCHEME}[^\s/:@\[]+:(?!(?:[\d{_SHOWN}]*|port)(?:\W|$))[^\s\"<>]*", rf"\1{_SHOWN}"),
    (rf"{_SCHEME}([^\s?#\"'<>]*)\?[^\s\"'<>)]+", rf"\1\2?{_SHOWN}"),
    (rf"{_SCHEME}([^\s#\"'<>]*)#[^\s\"'<>)]*=[^\s\"'<>)]*", rf"\1\2#{_SHOWN}"),
    (r"([/\w])\?[\w.-]+=[^\s\"'<>)]*", rf"\1?{_SHOWN}"),  # an address without its host
    (
        r"(authorization[\"']?\s*[:=]\s*[\"']?)(?:(?:basic|bearer|digest|token)\s+)?[^\s\"',}]+",
        rf"\1{_SHOWN}",
    ),
    (r"\b((?:password|passwd|token|secret|api_?key)=)[^\s&,;\"')]+", rf"\1{_SHOWN}"),
)
# Compiled when all is well: to say that memory has run out must not need more of it.
_PATTERNS = tuple((re.compile(pattern, re.IGNORECASE), shown) for pattern, shown in _REPLACED)


def without_secrets(text: str) -> str:
    """The text with "…" for user, password, query and fragment of each address, and for secrets of the environment.

    Those of the environment are the passwords and tokens of MLflow, of the mirror and of a proxy, also as a server
    may send them back: percent-encoded, as JSON or HTML. One that is shorter than four characters is not looked for.
    Clean a text before it is cut: half a password cannot be found.
    """
    if known := {form.lower(): form for secret in _known_secrets() for form in _forms(secret)}:
        # The longest first: one may be a part of another.
        longest_first = sorted(known.values(), key=len, reverse=True)
        text = re.sub("|".join(map(_searched, longest_first)), _SHOWN, text, flags=re.IGNORECASE)
    for pattern, shown in _PATTERNS:
        text = pattern.sub(shown, text)
    return text


def without_control_characters(text: str) -> str:
    """The text with escapes for what does not print: a name from a file may move the cursor, or hide lines."""
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in text
    )


def _known_secrets() -> set[str]:
    found = {os.environ.get(name, "") for name in _SECRETS}
    for name in _ADDRESSES:
        found.update(_secrets_of_address(os.environ.get(name, "")))
    user = os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    if password := os.environ.get("MLFLOW_TRACKING_PASSWORD"):
        found.add(_basic(user, password))
    return {secret for secret in found if len(secret) >= _LEAST_LENGTH}


def _secrets_of_address(address: str) -> Iterator[str]:
    """Password (or a user that stands alone: a token), the query and its values; as written and decoded."""
    scheme, separator, rest = address.partition("://")
    if not separator or scheme in ("sqlite", "file"):
        return
    # As an address is read, and as it was meant where a "/" in the password was not encoded. Without a ":" the latter
    # is rather a host and its path, as in https://cdn.example/repository@main.
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    for part in {authority, rest}:
        userinfo, at, _ = part.rpartition("@")
        user, colon, password = userinfo.partition(":")
        if not at or (part != authority and not colon):
            continue
        secret = password if colon else user
        yield from (secret, unquote(secret))
        yield _basic(unquote(user), unquote(password))
    try:
        query = urlsplit(address).query
    except ValueError:
        return
    yield query
    for _, value in parse_qsl(query):
        yield value


def _basic(user: str, password: str) -> str:
    """As it goes over the wire."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def _forms(secret: str) -> set[str]:
    encoded = {quote(secret, safe=""), quote(secret), quote_plus(secret)}
    return {secret, html.escape(secret), json.dumps(secret)[1:-1], repr(secret)[1:-1], *encoded}


def _searched(form: str) -> str:
    if len(form) >= _EVERYWHERE:
        return re.escape(form)
    return rf"(?<![^\W_]){re.escape(form)}(?![^\W_])"
