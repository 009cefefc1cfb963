/// Why there is no response, beside what goes wrong on the wire (`WireError`) and what ForkGuard refuses (`ForkError`).
public enum HTTPError: Error, Equatable {
    /// This cannot be sent: a server would take it for something else.
    case invalidRequest(String)
    /// Status line and headers are larger: the limit in bytes.
    case headTooLarge(limit: Int)
    /// The body is larger: the limit in bytes.
    case bodyTooLarge(limit: Int)
}

extension HTTPError: CustomStringConvertible {
    /// What went wrong, in words.
    public var description: String {
        switch self {
        case .invalidRequest(let why): "a request with \(why) cannot be sent"
        case .headTooLarge(let limit): "status line and headers are larger than \(limit) bytes"
        case .bodyTooLarge(let limit): "the body is larger than \(limit) bytes"
        }
    }
}
