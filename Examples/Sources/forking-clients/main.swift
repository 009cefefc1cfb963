import EventLoop
import ForkGuard
import Glibc
import HTTPClient
import MemcachedClient
import PostgresClient
import RedisClient
import Wire

// Each of the clients in a process that forks: the parent makes a client and asks through it in four threads all the time; its children, which inherit it in the
// middle of that, ask through it too. Every answer has to be the asker's own.

let usage = """
    usage: forking-clients redis|http|memcached|postgres|loop [HOST:PORT]
      redis, memcached  any server: keys are named forking-clients:… and expire
      http              a server whose /echo?id=X answers X
      postgres          a server with a user and a database named forkguard
      loop              no server: it listens itself, and its children answer
    Exit status: 0 when every answer was right, 1 when not, 64 for bad arguments.
    """

enum Example {
    static let children = 20
    static let requests = 50

    /// Asks for the echo of a text; whether that came back.
    typealias Echo = @Sendable (String) throws -> Bool

    static func echo(by client: String, at server: ServerAddress) throws -> Echo? {
        switch client {
        case "redis":
            let redis = try RedisClient(server)
            return { text in
                let replies = try redis.pipeline([
                    ["SET", "forking-clients:\(text)", text, "EX", "60"], ["GET", "forking-clients:\(text)"],
                ])
                return replies.map(\.text) == ["OK", text]
            }
        case "http":
            let http = HTTPClient()
            return { text in String(decoding: try http.get("/echo?id=\(text)", from: server).body, as: UTF8.self) == text }
        case "memcached":
            let memcached = try MemcachedClient(to: server)
            return { text in
                try memcached.set("forking-clients:\(text)", to: Array(text.utf8), seconds: 60)
                return try memcached.get("forking-clients:\(text)") == Array(text.utf8)
            }
        case "postgres":
            let postgres = try PostgresClient(server, user: "forkguard", database: "forkguard")
            return { text in try postgres.query("SELECT $1::text", [text]).value == text }
        default: return nil
        }
    }

    /// Whether all answers were right; says so.
    @Sendable static func ask(_ who: String, _ echo: Echo) -> Bool {
        for number in 0..<requests {
            do {
                if try echo("\(getpid())-\(who)-\(number)") { continue }
                print("\(who): the answer to request \(number) was not its own")
            } catch {
                print("\(who): \(error)")
            }
            return false
        }
        return true
    }

    static func run(_ echo: @escaping Echo) throws -> Bool {
        // Once before anybody forks: what a child is the first to do may meet a lock of the Swift runtime that a vanished thread held.
        guard ask("parent", echo) else { return false }
        let over = ForkMutex(false)
        let threads = try (0..<4).map { index in
            try ForkWorker(name: "asker \(index)") { (_: Void) in
                var right = 0
                while !over.withLock({ $0 }), ask("thread-\(index)", echo) { right += requests }
                return right
            }
        }
        let replies = try threads.map { try $0.submit((), timeout: .seconds(1)) }
        let forked = try (0..<children).map { index in try ForkGuard.fork { ask("child-\(index)", echo) ? 0 : 1 } }
        let right = try forked.filter { try $0.wait(timeout: .seconds(60)) == .exited(0) }.count
        over.withLock { $0 = true }
        let answers = try replies.map { try $0.wait(timeout: .seconds(60)) }
        for thread in threads { thread.close() }
        for thread in threads { try thread.join(timeout: .seconds(10)) }
        print("\(right) of \(children) children got \(requests) right answers each, the parent's threads meanwhile \(answers)")
        return right == children && answers.allSatisfy { $0 > 0 }
    }
}

let arguments = Array(CommandLine.arguments.dropFirst())
if arguments == ["--help"] {
    print(usage)
    exit(0)
}
if arguments == ["loop"] { exit(try PreforkEcho.run(children: Example.children, requests: Example.requests) ? 0 : 1) }
guard arguments.count == 2, let colon = arguments[1].lastIndex(of: ":"),
    let port = UInt16(arguments[1][arguments[1].index(after: colon)...])
else {
    print(usage)
    exit(64)
}
let server = try ServerAddress(host: String(arguments[1][..<colon]), port: port)
guard let echo = try Example.echo(by: arguments[0], at: server) else {
    print(usage)
    exit(64)
}
exit(try Example.run(echo) ? 0 : 1)
