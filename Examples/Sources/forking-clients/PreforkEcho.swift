import EventLoop
import ForkGuard
import Glibc
import Wire

/// A pre-forking server: the parent listens, its children answer, each by the event loop that the parent made, on a set of their own.
enum PreforkEcho {
    static func run(children: Int, requests: Int) throws -> Bool {
        let (listener, port) = try listen()
        let loop = EventLoop()
        // Not run here: the parent only asks. In each child the loop has it anew, in the child's own set.
        try loop.add(listener, .readable, inChild: .registeredAnew) { _ in
            // A sibling may have been faster.
            if let client = try? ForkDescriptor(name: "client", opening: { try listener.withNumber { accept($0, nil, nil) } }) {
                serve(client, on: loop)
            }
        }
        let servers = try (0..<4).map { _ in
            try ForkGuard.fork {
                try loop.run()
                return 0
            }
        }
        var right = 0, served: Set<String> = []
        for _ in 0..<children {
            let connection = try Connection(to: ServerAddress(host: "127.0.0.1", port: port), timeout: .seconds(5))
            for number in 0..<requests {
                let deadline = Deadline(in: .seconds(5))
                var answer: [UInt8] = []
                try connection.send(Array("\(number)\n".utf8), deadline)
                while answer.last != UInt8(ascii: "\n") { try connection.receive(into: &answer, deadline) }
                let words = String(decoding: answer.dropLast(), as: UTF8.self).split(separator: " ")
                if words.count == 2, words[1] == "\(number)" { right += 1 }
                served.insert(String(words[0]))
            }
            connection.close()
        }
        for server in servers { try server.signal(SIGTERM) }
        for server in servers { _ = try server.wait(timeout: .seconds(10)) }
        print("\(right) of \(children * requests) answers right, from \(served.count) of \(servers.count) children")
        return right == children * requests && !served.contains("\(getpid())")
    }

    /// Answers each line with this process's id and the line.
    private static func serve(_ client: ForkDescriptor, on loop: EventLoop) {
        let registration = ForkMutex<EventLoop.Registration?>(nil)
        let made = try? loop.add(client, .readable) { _ in
            var line = [UInt8](repeating: 0, count: 4096)
            let count = (try? client.withNumber { recv($0, &line, line.count, 0) }) ?? 0
            if count > 0 {
                let answer = Array("\(getpid()) ".utf8) + line[..<count]
                _ = try? client.withNumber { send($0, answer, answer.count, Int32(MSG_NOSIGNAL)) }
            } else if let registration = registration.withLock({ $0 }) {
                loop.remove(registration)
                try? client.close()
            }
        }
        registration.withLock { $0 = made }
    }

    private static func listen() throws -> (ForkDescriptor, UInt16) {
        let listener = try ForkDescriptor(.keep, name: "listener") {
            socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        try listener.withNumber { number in
            let listens = withUnsafeMutablePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(number, $0, length) == 0 && Glibc.listen(number, 128) == 0 && getsockname(number, $0, &length) == 0
                }
            }
            if !listens { throw WireError.system("listen", errno: errno) }
        }
        return (listener, UInt16(bigEndian: address.sin_port))
    }
}
