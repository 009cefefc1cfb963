import Foundation

/// An HTTP server on this machine, in a plain thread of the parent: it answers each path with itself, without the slash, and keeps its
/// connections open, as real ones do.
struct NumberServer {
    let port: UInt16

    /// `nil`: the system gave no socket, port or thread. It is there as long as the process.
    init?() {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isReady = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                fcntl(listener, F_SETFD, FD_CLOEXEC) == 0 && bind(listener, $0, length) == 0 && listen(listener, 128) == 0
                    && getsockname(listener, $0, &length) == 0
            }
        }
        guard isReady, SystemThread("server", { Self.serve(listener) }) != nil else { return nil }
        port = UInt16(bigEndian: address.sin_port)
    }

    private static func serve(_ listener: Int32) -> Never {
        var connections: [(descriptor: Int32, unread: [UInt8])] = []
        while true {
            var watched = ([listener] + connections.map(\.descriptor)).map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
            poll(&watched, nfds_t(watched.count), -1)
            for (index, entry) in watched.dropFirst().enumerated().reversed() where entry.revents != 0 {
                if !answer(&connections[index]) {
                    close(connections[index].descriptor)
                    connections.remove(at: index)
                }
            }
            if watched[0].revents != 0 {
                let accepted = accept(listener, nil, nil)
                if accepted >= 0 {
                    _ = fcntl(accepted, F_SETFD, FD_CLOEXEC)
                    connections.append((accepted, []))
                }
            }
        }
    }

    /// Answers what has arrived whole; false at the end of the connection.
    private static func answer(_ connection: inout (descriptor: Int32, unread: [UInt8])) -> Bool {
        guard let more = Descriptors.available(connection.descriptor) else { return false }
        connection.unread += more
        while let end = connection.unread.firstRange(of: Array("\r\n\r\n".utf8)) {
            let head = String(decoding: connection.unread[..<end.lowerBound], as: UTF8.self)
            connection.unread.removeFirst(end.upperBound)
            let words = head.split(separator: " ", maxSplits: 2)
            guard words.count == 3, words[0] == "GET" else { return false }
            let body = words[1].dropFirst()
            Console.put("HTTP/1.1 200 OK\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)", connection.descriptor)
        }
        return true
    }
}
