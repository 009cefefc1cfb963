import Wire

/// Reads responses off a connection, for one thread.
struct ResponseReader {
    private let connection: Connection
    private let limits: HTTPLimits
    private var buffer: [UInt8] = []
    private var position = 0
    private var headLeft = 0

    init(_ connection: Connection, _ limits: HTTPLimits) {
        self.connection = connection
        self.limits = limits
    }

    /// Waits for more.
    mutating func fill(_ deadline: Deadline) throws {
        if position == buffer.count {
            buffer.removeAll(keepingCapacity: true)
            position = 0
        }
        try connection.receive(into: &buffer, deadline)
    }

    /// The next response, and whether another may follow it.
    mutating func response(to method: String, _ deadline: Deadline) throws -> (response: HTTPResponse, keepsAlive: Bool) {
        headLeft = limits.head
        var (status, keepsAlive) = try statusLine(deadline)
        var headers = try headers(deadline)
        while 100..<200 ~= status {
            if status == 101 { throw WireError.malformed("another protocol, which nobody asked for") }
            (status, keepsAlive) = try statusLine(deadline)
            headers = try self.headers(deadline)
        }
        if let options = HTTPResponse.value(of: "Connection", in: headers) {
            keepsAlive = keepsAlive && !options.lowercased().split(separator: ",").contains { $0.trimmed == "close" }
        }
        var body: [UInt8] = []
        if method != "HEAD", status != 204, status != 304 { try read(&body, headers, deadline) }
        // Nobody has asked for what comes after it.
        return (HTTPResponse(status: status, headers: headers, body: body), keepsAlive && position == buffer.count)
    }

    private mutating func statusLine(_ deadline: Deadline) throws -> (status: Int, keepsAlive: Bool) {
        let line = try line(deadline)
        let parts = line.split(separator: " ", maxSplits: 2)
        guard parts.count >= 2, parts[0] == "HTTP/1.1" || parts[0] == "HTTP/1.0", parts[1].utf8.count == 3,
            let status = Self.number(parts[1]), status >= 100
        else { throw WireError.malformed("the status line '\(line.prefix(80))'") }
        return (status, parts[0] == "HTTP/1.1")
    }

    private mutating func headers(_ deadline: Deadline) throws -> [(name: String, value: String)] {
        var headers: [(name: String, value: String)] = []
        while case let line = try line(deadline), !line.isEmpty {
            guard let colon = line.firstIndex(of: ":"), HTTPRequest.isToken(line[..<colon]) else {
                throw WireError.malformed("the header '\(line.prefix(80))'")
            }
            headers.append((String(line[..<colon]), String(line[line.index(after: colon)...].trimmed)))
        }
        return headers
    }

    private mutating func read(_ body: inout [UInt8], _ headers: [(name: String, value: String)], _ deadline: Deadline) throws {
        let length = HTTPResponse.value(of: "Content-Length", in: headers)
        let coding = HTTPResponse.value(of: "Transfer-Encoding", in: headers)
        if let length, coding == nil {
            guard let count = Self.number(length) else { throw WireError.malformed("the length '\(length)'") }
            return try append(count, to: &body, deadline)
        }
        // Without a length a body ends when the connection does, and nobody knows whether that was all of it.
        guard let coding, length == nil, coding.lowercased() == "chunked" else { throw WireError.malformed("a body without a length") }
        while true {
            let line = try line(deadline)
            let digits = line.prefix { $0 != ";" }.trimmed
            guard let count = Self.number(digits, radix: 16) else { throw WireError.malformed("the chunk '\(line.prefix(80))'") }
            if count == 0 { break }
            headLeft += digits.utf8.count + 4  // what every chunk has does not count as head
            try append(count, to: &body, deadline)
            guard try self.line(deadline).isEmpty else { throw WireError.malformed("a chunk that does not end") }
        }
        _ = try self.headers(deadline)
    }

    private mutating func append(_ count: Int, to body: inout [UInt8], _ deadline: Deadline) throws {
        guard count <= limits.body - body.count else { throw HTTPError.bodyTooLarge(limit: limits.body) }
        let end = body.count + count
        while body.count < end {
            if position == buffer.count { try fill(deadline) }
            let part = buffer[position..<min(buffer.count, position + end - body.count)]
            body += part
            position = part.endIndex
        }
    }

    private mutating func line(_ deadline: Deadline) throws -> String {
        while true {
            let newline = buffer[position...].firstIndex(of: UInt8(ascii: "\n"))
            guard (newline.map { $0 + 1 } ?? buffer.count) - position <= headLeft else { throw HTTPError.headTooLarge(limit: limits.head) }
            if let newline {
                let line = buffer[position..<newline]
                headLeft -= line.count + 1
                position = newline + 1
                return String(decoding: line.last == UInt8(ascii: "\r") ? line.dropLast() : line, as: UTF8.self)
            }
            try fill(deadline)
        }
    }

    /// `Int.init` takes signs, too.
    private static func number(_ text: some StringProtocol, radix: Int = 10) -> Int? {
        text.utf8.first == UInt8(ascii: "+") || text.utf8.first == UInt8(ascii: "-") ? nil : Int(text, radix: radix)
    }
}

extension StringProtocol {
    /// Without the blanks around it.
    fileprivate var trimmed: SubSequence {
        let start = drop { $0 == " " || $0 == "\t" }
        return start[..<(start.lastIndex { $0 != " " && $0 != "\t" }.map(start.index(after:)) ?? start.startIndex)]
    }
}
