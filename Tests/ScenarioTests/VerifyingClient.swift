import ForkGuard
import Glibc
import Wire

/// Asks a preforking-server, one request after the other, and looks at each answer. A connection that is lost with the worker that had it
/// is made anew, and the request asked again; an answer that does not come in time is a hang, and the end.
final class VerifyingClient {
    private let server: ServerAddress
    private let key: String
    private let tally: Tally
    private var connection: Connection?
    private var last: [String: Int] = [:]
    /// Which workers have answered.
    private let seen: ForkMutex<Set<Int32>>

    init(_ server: ServerAddress, key: String, _ tally: Tally, seen: ForkMutex<Set<Int32>>) {
        self.server = server
        self.key = key
        self.tally = tally
        self.seen = seen
    }

    /// Asks until told to end. In a calm it asks now and then, on a new connection each time: workers that nobody keeps busy accept in
    /// turn, while under load one that has just begun may lose every race for a connection.
    func run(isOver: () -> Bool, isCalm: () -> Bool) {
        do {
            while !isOver() {
                if isCalm() {
                    connection = nil
                    usleep(5000)
                }
                let id = "\(key)-\(tally.next())"
                let echo = try ask("/echo?id=\(id)")
                tally.add(echo == id ? "echoes" : "wrong", 1, echo == id ? nil : "the echo of \(id) was \(echo)")
                try count(key)
                try count("shared-\(key.prefix { $0 != "." })")
            }
            // Each request has counted once, and each that was lost at most once.
            tally.add("counted", last[key] ?? 0)
        } catch {
            tally.add("failed", 1, "\(key): \(error)")
        }
    }

    private func count(_ key: String) throws {
        let words = try ask("/incr?key=\(key)").split(whereSeparator: \.isWhitespace)
        guard words.count == 2, let process = Int32(words[0]), let value = Int(words[1]), value > last[key, default: 0] else {
            return tally.add("wrong", 1, "\(key) was \(last[key, default: 0]), and is \(words)")
        }
        last[key] = value
        tally.add(key == self.key ? "own counts" : "shared counts")
        seen.withLock { _ = $0.insert(process) }
    }

    private func ask(_ path: String) throws -> String {
        let deadline = Deadline(in: .seconds(2))
        while true {
            do {
                let connection = try connection ?? Connection(to: server, timeout: deadline.left)
                self.connection = connection
                return try Self.ask(path, connection, deadline)
            } catch WireError.closedByPeer, WireError.system("connect", _), WireError.system(_, ECONNRESET) {
                tally.add(path.contains(key) && path.hasPrefix("/incr") ? "resets in own counts" : "resets")
                connection = nil
                if deadline.hasPassed { throw WireError.timedOut(path) }
            }
        }
    }

    /// The text of the answer 200.
    static func ask(_ path: String, _ connection: Connection, _ deadline: Deadline) throws -> String {
        try connection.send(Array("GET \(path) HTTP/1.1\r\nHost: localhost\r\n\r\n".utf8), deadline)
        var bytes: [UInt8] = []
        while true {
            try connection.receive(into: &bytes, deadline)
            // Swift takes CR LF for one character.
            let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\r\n", omittingEmptySubsequences: false)
            guard let end = lines.firstIndex(of: ""), end + 1 < lines.count else { continue }
            guard lines[0] == "HTTP/1.1 200 OK",
                let length = lines.first(where: { $0.hasPrefix("Content-Length: ") }).flatMap({ Int($0.dropFirst(16)) })
            else { throw WireError.malformed("\(path): \(lines)") }
            let text = lines[(end + 1)...].joined(separator: "\r\n")
            if text.utf8.count > length { throw WireError.malformed("more than one answer: \(text)") }
            if text.utf8.count == length { return text }
        }
    }
}
