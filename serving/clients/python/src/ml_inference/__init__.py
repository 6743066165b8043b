"""Client of ml-inference."""

from .aio import AsyncClient
from .client import Client
from .errors import (
    Conflict,
    ConnectionFailed,
    DeadlineExceeded,
    InferenceError,
    InputFault,
    InputRefused,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RateLimited,
    ServerFault,
    Unauthenticated,
    Unavailable,
)
from .results import Answer
from .retry import RetryPolicy

__all__ = [
    "Answer",
    "AsyncClient",
    "Client",
    "Conflict",
    "ConnectionFailed",
    "DeadlineExceeded",
    "InferenceError",
    "InputFault",
    "InputRefused",
    "InvalidRequest",
    "NotFound",
    "PermissionDenied",
    "RateLimited",
    "RetryPolicy",
    "ServerFault",
    "Unauthenticated",
    "Unavailable",
]
