/// What a Redis server answers to a command.
public enum RedisReply: Sendable, Equatable {
    /// A word, `OK` most often.
    case status(String)
    /// The server refused this command. The others of the pipeline are not concerned.
    case error(String)
    /// A number.
    case integer(Int64)
    /// Bytes; `nil` is a value that does not exist.
    case bulk([UInt8]?)
    /// Several replies; `nil` is a list that does not exist.
    case array([RedisReply]?)

    /// The text of a status or of bytes.
    public var text: String? {
        switch self {
        case .status(let text): text
        case .bulk(let bytes?): String(decoding: bytes, as: UTF8.self)
        default: nil
        }
    }
}
