/// Why there is no result. What takes too long or is too large comes as a `WireError`, what ForkGuard refuses as a `ForkError`.
public enum PostgresError: Error, Equatable {
    /// The server refused the statement: its SQLSTATE, and its words. The connection is whole.
    case server(sqlState: String, message: String)
    /// The connection could not be made, or was lost; libpq's words.
    case connection(String)
    /// This client does not know what to do with it: COPY.
    case unsupported(String)
}

extension PostgresError: CustomStringConvertible {
    /// What went wrong, in words.
    public var description: String {
        switch self {
        case .server(let sqlState, let message): "the server refused (\(sqlState)): \(message)"
        case .connection(let message): "no connection: \(message)"
        case .unsupported(let what): "not supported: \(what)"
        }
    }
}
