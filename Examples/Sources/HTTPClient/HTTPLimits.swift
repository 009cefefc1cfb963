/// How much of an answer a client takes, in bytes. What is larger is an error, and ends the connection.
public struct HTTPLimits: Sendable {
    /// Status line and headers; those after a chunked body, and what the lines of its chunks have beside a size, too.
    public var head = 64 << 10
    /// The body.
    public var body = 16 << 20

    /// 64 KiB and 16 MiB.
    public init() {}
}
