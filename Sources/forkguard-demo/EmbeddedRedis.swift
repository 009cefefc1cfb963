#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// A small Redis server, for where there is none: one thread, one `poll`, and a process of its own, which no fork of the demo touches.
///
/// Speaks RESP 2: PING, ECHO, SET (with EX), GET, INCR, DEL, CLIENT, QUIT.
struct EmbeddedRedis {
    private struct Connection {
        var received: [UInt8] = []
        var unsent: [UInt8] = []
        var isClosing = false
    }

    private struct Entry {
        var value: [UInt8]
        var expires: UInt64?
    }

    private let listener: Int32
    private var connections: [Int32: Connection] = [:]
    private var entries: [[UInt8]: Entry] = [:]

    /// The whole process: says its port on standard output, and ends when standard input does.
    static func main() -> Int32 {
        signal(SIGPIPE, SIG_IGN)
        Subprocess.closeStrayDescriptors()
        guard let (listener, port) = listen() else {
            Console.error("the embedded server cannot listen on 127.0.0.1: \(String(cString: strerror(errno)))")
            return EX_OSERR
        }
        Console.output("\(port)\n")
        var server = EmbeddedRedis(listener: listener)
        server.serve()
        return 0
    }

    private init(listener: Int32) { self.listener = listener }

    private static func listen() -> (listener: Int32, port: UInt16)? {
        #if canImport(Glibc)
            let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        #else
            let listener = socket(AF_INET, SOCK_STREAM, 0)
        #endif
        guard listener >= 0 else { return nil }
        var address = sockaddr_in()
        address.sin_family = .init(AF_INET)
        address.sin_addr.s_addr = INADDR_LOOPBACK.bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isBound = withUnsafeMutableBytes(of: &address) { bytes in
            let name = bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self)
            #if canImport(Glibc)
                let listens = Glibc.bind(listener, name, length) == 0 && Glibc.listen(listener, SOMAXCONN) == 0
            #elseif canImport(Musl)
                let listens = Musl.bind(listener, name, length) == 0 && Musl.listen(listener, SOMAXCONN) == 0
            #else
                let listens = Darwin.bind(listener, name, length) == 0 && Darwin.listen(listener, SOMAXCONN) == 0
            #endif
            return listens && getsockname(listener, name, &length) == 0
        }
        setNonblocking(listener)
        return isBound ? (listener, UInt16(bigEndian: address.sin_port)) : nil
    }

    private static func setNonblocking(_ descriptor: Int32) {
        _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
    }

    // ---- the loop ----

    private mutating func serve() {
        while true {
            var wanted = [
                pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0), pollfd(fd: listener, events: Int16(POLLIN), revents: 0),
            ]
            for (descriptor, connection) in connections {
                wanted.append(pollfd(fd: descriptor, events: Int16(connection.unsent.isEmpty ? POLLIN : POLLOUT), revents: 0))
            }
            guard poll(&wanted, .init(wanted.count), -1) > 0 else { continue }
            if wanted[0].revents != 0 { return }
            if wanted[1].revents != 0 { accept() }
            for ready in wanted[2...] where ready.revents != 0 { handle(ready.fd) }
        }
    }

    private mutating func accept() {
        #if canImport(Glibc)
            let descriptor = Glibc.accept(listener, nil, nil)
        #elseif canImport(Musl)
            let descriptor = Musl.accept(listener, nil, nil)
        #else
            let descriptor = Darwin.accept(listener, nil, nil)
        #endif
        guard descriptor >= 0 else {
            // With no descriptor free, the one that waits would wake poll for ever.
            if errno == EMFILE || errno == ENFILE { MonotonicClock.sleep(10 * MonotonicClock.millisecond) }
            return
        }
        Self.setNonblocking(descriptor)
        var yes: Int32 = 1
        setsockopt(descriptor, .init(IPPROTO_TCP), TCP_NODELAY, &yes, socklen_t(MemoryLayout<Int32>.size))
        connections[descriptor] = Connection()
    }

    private mutating func handle(_ descriptor: Int32) {
        guard var connection = connections[descriptor] else { return }
        let isOpen = receive(descriptor, &connection) && send(descriptor, &connection)
        connections[descriptor] = isOpen ? connection : nil
        if !isOpen { close(descriptor) }
    }

    private mutating func receive(_ descriptor: Int32, _ connection: inout Connection) -> Bool {
        guard connection.unsent.isEmpty else { return true }
        let count = withUnsafeTemporaryAllocation(byteCount: 16384, alignment: 1) { buffer in
            let count = read(descriptor, buffer.baseAddress, buffer.count)
            if count > 0 { connection.received.append(contentsOf: buffer[..<count]) }
            return count
        }
        guard count > 0 else { return count < 0 && (errno == EAGAIN || errno == EINTR) }
        var start = 0
        do {
            while !connection.isClosing, let (command, end) = try RESP.command(in: connection.received, from: start) {
                start = end
                if !command.isEmpty { connection.unsent.append(answer(command, &connection.isClosing)) }
            }
        } catch {
            connection.unsent.append(RESP.Reply.error(Array("ERR Protocol error: \(error.what)".utf8)))
            connection.isClosing = true
        }
        connection.received.removeFirst(start)
        return true
    }

    private func send(_ descriptor: Int32, _ connection: inout Connection) -> Bool {
        if !connection.unsent.isEmpty {
            let count = connection.unsent.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
            if count < 0 { return errno == EAGAIN || errno == EINTR }
            connection.unsent.removeFirst(count)
        }
        return !(connection.isClosing && connection.unsent.isEmpty)
    }

    // ---- the commands ----

    private mutating func answer(_ command: [[UInt8]], _ isClosing: inout Bool) -> RESP.Reply {
        let name = String(decoding: command[0], as: UTF8.self).uppercased()
        switch (name, command.count) {
        case ("PING", 1): return .simple(Array("PONG".utf8))
        case ("PING", 2), ("ECHO", 2): return .bulk(command[1])
        case ("SET", 3): return set(command[1], to: command[2], expires: nil)
        case ("SET", 5) where String(decoding: command[3], as: UTF8.self).uppercased() == "EX":
            guard let seconds = Int64(decimal: command[4][...]), seconds > 0, seconds < 1_000_000_000 else {
                return error("value is not an integer or out of range")
            }
            return set(command[1], to: command[2], expires: MonotonicClock.now + UInt64(seconds) * MonotonicClock.second)
        case ("SET", 4...): return error("syntax error")
        case ("GET", 2): return .bulk(entry(command[1])?.value)
        case ("INCR", 2): return increment(command[1])
        case ("DEL", 2...):
            let known = Set(command[1...]).filter { entry($0) != nil }
            for key in known { entries[key] = nil }
            return .integer(Int64(known.count))
        case ("CLIENT", 2...): return .simple(Array("OK".utf8))
        case ("QUIT", 1):
            isClosing = true
            return .simple(Array("OK".utf8))
        case ("PING", _), ("ECHO", _), ("SET", _), ("GET", _), ("INCR", _), ("DEL", _), ("CLIENT", _), ("QUIT", _):
            return error("wrong number of arguments for '\(name.lowercased())' command")
        default: return error("unknown command '\(name)'")
        }
    }

    private func error(_ text: String) -> RESP.Reply { .error(Array("ERR \(text)".utf8)) }

    private mutating func set(_ key: [UInt8], to value: [UInt8], expires: UInt64?) -> RESP.Reply {
        entries[key] = Entry(value: value, expires: expires)
        return .simple(Array("OK".utf8))
    }

    private mutating func entry(_ key: [UInt8]) -> Entry? {
        if let expires = entries[key]?.expires, expires <= MonotonicClock.now { entries[key] = nil }
        return entries[key]
    }

    private mutating func increment(_ key: [UInt8]) -> RESP.Reply {
        let old = entry(key)
        guard let number = Int64(decimal: old?.value[...] ?? [UInt8(ascii: "0")]), number < .max else {
            return error("value is not an integer or out of range")
        }
        var value: [UInt8] = []
        value.append(decimal: Int(number + 1))
        entries[key] = Entry(value: value, expires: old?.expires)
        return .integer(number + 1)
    }
}
