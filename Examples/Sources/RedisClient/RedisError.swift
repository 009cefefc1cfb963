/// Why there is no answer. What goes wrong on the wire comes as a `WireError`, what ForkGuard refuses as a `ForkError`.
public enum RedisError: Error {
    /// The server refused the command, in its words. The connection is whole.
    case server(String)
    /// A pipeline broke off: the answers that had come, in order, and why no more did. Whether the server has done the rest is not known.
    case brokenOff(answered: [RedisReply], because: any Error)
}

extension RedisError: CustomStringConvertible {
    /// What went wrong, in words.
    public var description: String {
        switch self {
        case .server(let message): "the server refused: \(message)"
        case .brokenOff(let answered, let cause): "the pipeline broke off after \(answered.count) answers: \(cause)"
        }
    }
}
