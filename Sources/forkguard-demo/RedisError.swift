#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Why a request has no answer.
enum RedisError: Error, Equatable {
    /// Nothing came in time.
    case timedOut
    /// The server closed the connection.
    case closed
    /// All connections of the pool are with others, and stayed there.
    case poolExhausted
    /// To one question there came these answers. One of them, at least, is somebody else's.
    case surplus([RESP.Reply])
    /// What came is not a reply.
    case malformed(String)
    case system(String, errno: Int32)
}

extension RedisError: CustomStringConvertible {
    var description: String {
        switch self {
        case .timedOut: String(cString: strerror(ETIMEDOUT))
        case .closed: "the server closed the connection"
        case .poolExhausted: "no connection became free in time"
        case .surplus(let replies): "\(replies.count) answers came to one question"
        case .malformed(let what): "the answer is not of the Redis protocol: \(what)"
        case .system(let call, let error): "\(call): \(String(cString: strerror(error)))"
        }
    }
}
