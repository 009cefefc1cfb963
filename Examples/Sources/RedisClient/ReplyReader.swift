import Wire

/// Reads replies of version 2 of the protocol, as they come.
struct ReplyReader {
    private static let deepest = 16

    private let connection: Connection
    private let limit: Int
    private let deadline: Deadline
    private var bytes: [UInt8] = []
    private var position = 0

    init(_ connection: Connection, limit: Int, _ deadline: Deadline) {
        self.connection = connection
        self.limit = limit
        self.deadline = deadline
    }

    /// The next reply, whole.
    mutating func next() throws -> RedisReply {
        bytes.removeFirst(position)
        position = 0
        return try reply(depth: 0)
    }

    /// Nothing may be left: it would be the next one's answer.
    func finish() throws {
        if position != bytes.count { throw WireError.malformed("more replies than commands") }
    }

    private mutating func reply(depth: Int) throws -> RedisReply {
        guard depth < Self.deepest else { throw WireError.malformed("arrays nested deeper than \(Self.deepest)") }
        let line = try line()
        let text = line.dropFirst()
        switch line.first {
        case UInt8(ascii: "+"): return .status(String(decoding: text, as: UTF8.self))
        case UInt8(ascii: "-"): return .error(String(decoding: text, as: UTF8.self))
        case UInt8(ascii: ":"): return .integer(try number(text))
        case UInt8(ascii: "$"): return .bulk(try count(text).map { try bulk($0) })
        case UInt8(ascii: "*"):
            guard let count = try count(text) else { return .array(nil) }
            var elements: [RedisReply] = []
            while elements.count < count { elements.append(try reply(depth: depth + 1)) }
            return .array(elements)
        default: throw WireError.malformed("a reply that begins with \(line.first.map(String.init) ?? "an empty line")")
        }
    }

    private mutating func line() throws -> ArraySlice<UInt8> {
        var searched = position
        while true {
            if let end = bytes[searched...].firstIndex(of: UInt8(ascii: "\n")) {
                guard end > position, bytes[end - 1] == UInt8(ascii: "\r") else { throw WireError.malformed("a line without \\r\\n") }
                defer { position = end + 1 }
                return bytes[position..<end - 1]
            }
            searched = bytes.count
            try connection.receive(into: &bytes, limit: limit, deadline)
        }
    }

    private mutating func bulk(_ length: Int) throws -> [UInt8] {
        // Not waited for.
        guard length <= limit - position - 2 else { throw WireError.tooLarge(limit: limit) }
        while bytes.count < position + length + 2 { try connection.receive(into: &bytes, limit: limit, deadline) }
        let end = position + length
        guard bytes[end] == UInt8(ascii: "\r"), bytes[end + 1] == UInt8(ascii: "\n") else {
            throw WireError.malformed("bytes without their end")
        }
        defer { position = end + 2 }
        return Array(bytes[position..<end])
    }

    /// `nil` is -1: there is none.
    private func count(_ text: ArraySlice<UInt8>) throws -> Int? {
        let count = try number(text)
        if count == -1 { return nil }
        guard count >= 0 else { throw WireError.malformed("a length of \(count)") }
        return Int(count)
    }

    private func number(_ text: ArraySlice<UInt8>) throws -> Int64 {
        guard let number = Int64(String(decoding: text, as: UTF8.self)) else { throw WireError.malformed("not a number") }
        return number
    }
}
