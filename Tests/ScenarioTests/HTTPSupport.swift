import Glibc
import HTTPClient
import Wire

/// What the tests of the HTTP client share.
enum HTTPSupport {
    static func nginx() throws -> ServerAddress {
        let (host, port) = try Servers.nginx()
        return try ServerAddress(host: host, port: port)
    }

    static func nginxClosing() throws -> ServerAddress {
        let (host, port) = try Servers.nginxClosing()
        return try ServerAddress(host: host, port: port)
    }

    /// nginx's number for the connection that this was asked on: no other ever has it.
    static func connectionNumber(_ response: HTTPResponse) -> Int? {
        response.text.split(separator: " ").first.flatMap { Int($0) }
    }

    // ---- what a process has ----

    /// Without those of Dispatch, which XCTest uses: they come and go.
    static func threads() -> Int {
        entries("/proc/self/task").filter { task in
            guard let file = fopen("/proc/self/task/\(task)/comm", "r") else { return false }
            defer { fclose(file) }
            var name = [CChar](repeating: 0, count: 32)
            return fgets(&name, 32, file) != nil && strstr(name, "qos") == nil
        }.count
    }

    /// Without those that stand for no file, which Dispatch has. A tombstone is counted.
    static func descriptors() -> Int {
        entries("/proc/self/fd").filter { number in
            var status = stat()
            return fstat(Int32(number) ?? -1, &status) == 0 && status.st_mode & S_IFMT != 0
        }.count
    }

    private static func entries(_ path: String) -> [String] {
        guard let directory = opendir(path) else { return [] }
        defer { closedir(directory) }
        var entries: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            if !name.hasPrefix(".") { entries.append(name) }
        }
        return entries
    }

    /// Waits until the condition holds. False when it did not in time.
    static func wait(_ timeout: Duration, until condition: () -> Bool) -> Bool {
        let deadline = Deadline(in: timeout)
        while !condition() {
            if deadline.hasPassed { return false }
            usleep(1000)
        }
        return true
    }

    // ---- without ForkGuard ----

    /// A blocking socket.
    static func plainConnection(to port: UInt16) -> Int32 {
        let number = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        precondition(number >= 0 && Loopback.connect(number, to: port) == 0)
        return number
    }

    static func plainSend(_ path: String, on number: Int32) -> Bool {
        let request = Array("GET \(path) HTTP/1.1\r\nHost: localhost\r\n\r\n".utf8)
        return send(number, request, request.count, Int32(MSG_NOSIGNAL)) == request.count
    }

    /// The body of a response with a Content-Length; nil at the connection's end.
    static func plainReceive(on number: Int32) -> String? {
        var text = ""
        var bytes = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = recv(number, &bytes, bytes.count, 0)
            guard count > 0 else { return nil }
            text += String(decoding: bytes[..<count], as: UTF8.self)
            // Swift takes CR LF for one character.
            let lines = text.split(separator: "\r\n", omittingEmptySubsequences: false)
            guard let end = lines.firstIndex(of: ""), end + 1 < lines.count else { continue }
            let length = lines.first { $0.hasPrefix("Content-Length: ") }.flatMap { Int($0.dropFirst(16)) } ?? 0
            let body = lines[(end + 1)...].joined(separator: "\r\n")
            if body.utf8.count >= length { return body }
        }
    }
}
