/// What a server is asked for.
public struct HTTPRequest: Sendable {
    let method: String
    private let lines: String
    private let body: [UInt8]

    /// A request; `path` begins with a slash, and is escaped already. The client adds `Host` and what frames the body.
    ///
    /// - Throws: `HTTPError.invalidRequest` for what would end its line, and for a header that is the client's to set.
    public init(_ method: String, _ path: String, headers: [String: String] = [:], body: [UInt8] = []) throws {
        guard Self.isToken(method) else { throw HTTPError.invalidRequest("the method '\(method)'") }
        guard path.utf8.first == UInt8(ascii: "/"), path.utf8.allSatisfy({ 0x21...0x7E ~= $0 }) else {
            throw HTTPError.invalidRequest("the path '\(path)'")
        }
        var lines = ""
        for (name, value) in headers {
            let ours = ["host", "connection", "content-length", "transfer-encoding"].contains(name.lowercased())
            guard !ours, Self.isToken(name), value.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F || $0 == 0x09 }) else {
                throw HTTPError.invalidRequest("the header '\(name): \(value)'")
            }
            lines += "\(name): \(value)\r\n"
        }
        if !body.isEmpty || ["POST", "PUT", "PATCH"].contains(method) { lines += "Content-Length: \(body.count)\r\n" }
        self.method = method
        self.lines = "\(method) \(path) HTTP/1.1\r\n\(lines)"
        self.body = body
    }

    /// Whether it may be sent again when nobody knows what became of it.
    var isIdempotent: Bool { ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"].contains(method) }

    func bytes(host: String, port: UInt16) -> [UInt8] {
        let name = host.utf8.contains(UInt8(ascii: ":")) ? "[\(host)]" : host
        return Array("\(lines)Host: \(name):\(port)\r\n\r\n".utf8) + body
    }

    static func isToken(_ text: some StringProtocol) -> Bool {
        !text.isEmpty && text.utf8.allSatisfy { 0x21...0x7E ~= $0 && !"\"(),/:;<=>?@[\\]{}".utf8.contains($0) }
    }
}
