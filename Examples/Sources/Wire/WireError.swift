import Glibc

/// Why a connection has no answer. What ForkGuard refuses comes as a `ForkError`.
public enum WireError: Error, Equatable {
    /// Nothing happened in time; what was waited for.
    case timedOut(String)
    /// The peer closed the connection, or reset it.
    case closedByPeer
    /// What came is not of the protocol.
    case malformed(String)
    /// More came than this client takes: the limit in bytes.
    case tooLarge(limit: Int)
    /// No address for this host.
    case unknownHost(String, why: String)
    /// A system call failed.
    case system(String, errno: Int32)
}

extension WireError: CustomStringConvertible {
    /// What went wrong, in words.
    public var description: String {
        switch self {
        case .timedOut(let what): "\(what) took too long"
        case .closedByPeer: "the peer closed the connection"
        case .malformed(let what): "what came is not of the protocol: \(what)"
        case .tooLarge(let limit): "what came is larger than \(limit) bytes"
        case .unknownHost(let host, let why): "\(host): \(why)"
        case .system(let call, let error): "\(call): \(String(cString: strerror(error)))"
        }
    }
}
