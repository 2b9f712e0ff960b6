//! A protected service and a client that knows only a token file.
