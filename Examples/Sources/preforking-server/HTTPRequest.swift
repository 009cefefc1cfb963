/// A request without a body, of HTTP/1.1 or 1.0.
struct HTTPRequest: Sendable {
    struct Malformed: Error, CustomStringConvertible { let description: String }

    private static let largestHead = 8192
    private static let end = Array("\r\n\r\n".utf8)

    let method: String
    let path: String
    /// What stands after the `?`, as it was sent.
    private(set) var query: [String: String] = [:]
    private(set) var keepsAlive: Bool

    /// Takes the first one out of what has come; `nil` when more must come.
    init?(takenFrom bytes: inout [UInt8]) throws(Malformed) {
        guard let end = bytes.firstRange(of: Self.end) else {
            if bytes.count > Self.largestHead { throw Malformed(description: "the head is larger than \(Self.largestHead) bytes") }
            return nil
        }
        let head = bytes[..<end.lowerBound]
        bytes.removeSubrange(..<end.upperBound)
        guard head.allSatisfy({ $0 == 9 || $0 == 10 || $0 == 13 || 32..<127 ~= $0 }) else {
            throw Malformed(description: "bytes that are no text")
        }
        var lines = String(decoding: head, as: UTF8.self).split(separator: "\r\n" as Character, omittingEmptySubsequences: false)
        let words = lines.removeFirst().split(separator: " ", omittingEmptySubsequences: false)
        guard words.count == 3, !words[0].isEmpty, words[1].hasPrefix("/"), words[2] == "HTTP/1.1" || words[2] == "HTTP/1.0" else {
            throw Malformed(description: "no request line of HTTP/1.1")
        }
        let target = words[1].split(separator: "?", maxSplits: 1)
        method = String(words[0])
        path = String(target[0])
        keepsAlive = words[2] == "HTTP/1.1"
        for pair in target.dropFirst().joined().split(separator: "&") {
            let parts = pair.split(separator: "=", maxSplits: 1)
            if parts.count == 2 { query[String(parts[0])] = String(parts[1]) }
        }
        for line in lines {
            guard let colon = line.firstIndex(of: ":"), colon != line.startIndex, !line[..<colon].contains(" ") else {
                throw Malformed(description: "a header without a name")
            }
            let value = line[line.index(after: colon)...].trimmingPrefix(while: \.isWhitespace).lowercased()
            switch (line[..<colon].lowercased(), value) {
            case ("connection", "close"): keepsAlive = false
            case ("content-length", "0"): break
            case ("content-length", _), ("transfer-encoding", _): throw Malformed(description: "bodies are not taken")
            default: break
            }
        }
    }
}
