import Wire

/// Reads the reply to one request.
struct ReplyReader: ~Copyable {
    private let connection: Connection
    private let valueLimit: Int
    private let deadline: Deadline
    private var buffer: [UInt8] = []
    private var position = 0

    /// The longest line of the protocol has a key of 250 bytes and four numbers; an error's text may be longer.
    private static let lineLimit = 2048

    init(_ connection: Connection, valueLimit: Int, _ deadline: Deadline) {
        self.connection = connection
        self.valueLimit = valueLimit
        self.deadline = deadline
    }

    /// The words of the next line.
    ///
    /// - Throws: `MemcachedError` for one of the three lines that end a reply with an error.
    mutating func words() throws -> [Substring] {
        let words = try line().split(separator: " ")
        guard let first = words.first, first.hasSuffix("ERROR") else { return words }
        try end()
        let text = words.dropFirst().joined(separator: " ")
        throw first == "SERVER_ERROR" ? MemcachedError.server(text) : .request(text.isEmpty ? "unknown command" : text)
    }

    /// The one word that this reply consists of.
    mutating func word(among expected: [String]) throws -> String {
        let words = try words()
        guard words.count == 1, expected.contains(String(words[0])) else { throw malformed(words) }
        return String(words[0])
    }

    /// The values up to `END`, each with its key and, if there is one, its version.
    mutating func values(_ body: (String, [UInt8], UInt64?) throws -> Void) throws {
        while case let words = try words(), words != ["END"] {
            guard words.count == 4 || words.count == 5, words[0] == "VALUE", let size = Int(words[3]), size >= 0 else {
                throw malformed(words)
            }
            try body(String(words[1]), try block(size), words.count == 5 ? UInt64(words[4]) : nil)
        }
    }

    /// Checks that nothing came after the reply: it would be taken for the answer to the next request.
    func end() throws {
        if position != buffer.count { throw WireError.malformed("\(buffer.count - position) bytes after the reply") }
    }

    func malformed(_ words: [Substring]) -> WireError { .malformed(words.joined(separator: " ")) }

    private mutating func line() throws -> String {
        while true {
            if let newline = buffer[position...].firstIndex(of: UInt8(ascii: "\n")) {
                if newline == position || buffer[newline - 1] != UInt8(ascii: "\r") { throw WireError.malformed("a line without \\r\\n") }
                defer { position = newline + 1 }
                return String(decoding: buffer[position..<newline - 1], as: UTF8.self)
            }
            guard buffer.count - position < Self.lineLimit else { throw WireError.tooLarge(limit: Self.lineLimit) }
            try receive()
        }
    }

    private mutating func block(_ size: Int) throws -> [UInt8] {
        guard size <= valueLimit else { throw WireError.tooLarge(limit: valueLimit) }
        while buffer.count - position < size + 2 { try receive() }
        let end = position + size
        if !buffer[end..<end + 2].elementsEqual("\r\n".utf8) { throw WireError.malformed("a value that is longer than announced") }
        defer { position = end + 2 }
        return Array(buffer[position..<end])
    }

    /// More bytes, behind those that were not read yet.
    private mutating func receive() throws {
        buffer.removeFirst(position)
        position = 0
        try connection.receive(into: &buffer, limit: valueLimit + Self.lineLimit, deadline)
    }
}
