//! Statuses of gRPC, whose transport this crate does not know.

macro_rules! grpc_codes {
    ($($name:ident = $number:literal $written:literal,)+) => {
        /// A status of gRPC (<https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>).
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the protocol's own names")]
        pub enum GrpcCode {
            $($name = $number,)+
        }

        impl GrpcCode {
            /// As the protocol's documents write it, such as `INVALID_ARGUMENT`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $written,)+
                }
            }
        }
    };
}

grpc_codes! {
    Ok = 0 "OK",
    Cancelled = 1 "CANCELLED",
    Unknown = 2 "UNKNOWN",
    InvalidArgument = 3 "INVALID_ARGUMENT",
    DeadlineExceeded = 4 "DEADLINE_EXCEEDED",
    NotFound = 5 "NOT_FOUND",
    AlreadyExists = 6 "ALREADY_EXISTS",
    PermissionDenied = 7 "PERMISSION_DENIED",
    ResourceExhausted = 8 "RESOURCE_EXHAUSTED",
    FailedPrecondition = 9 "FAILED_PRECONDITION",
    Aborted = 10 "ABORTED",
    OutOfRange = 11 "OUT_OF_RANGE",
    Unimplemented = 12 "UNIMPLEMENTED",
    Internal = 13 "INTERNAL",
    Unavailable = 14 "UNAVAILABLE",
    DataLoss = 15 "DATA_LOSS",
    Unauthenticated = 16 "UNAUTHENTICATED",
}
