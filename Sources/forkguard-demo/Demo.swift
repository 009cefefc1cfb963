#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// The demo from its command line to its exit status.
enum Demo {
    static let serverName = "--internal-server"

    /// Not everything can be reported in the table.
    private struct Failure: Error {
        let status: Int32
        let message: String
    }

    static func main(_ words: [String]) -> Int32 {
        // Whoever starts it may ignore the end of children, and then none could be waited for.
        signal(SIGCHLD, SIG_DFL)
        if words == [serverName] { return EmbeddedRedis.main() }
        if let column = ColumnProcess(arguments: words) { return column.main() }
        do {
            var arguments = try arguments(words)
            // The same for both columns.
            if arguments.seed == nil { arguments.seed = MonotonicClock.now }
            return try run(arguments)
        } catch {
            Console.error(error.message)
            return error.status
        }
    }

    private static func arguments(_ words: [String]) throws(Failure) -> Arguments {
        do {
            return try Arguments(words)
        } catch {
            throw Failure(status: EX_USAGE, message: error.message + "; see --help")
        }
    }

    private static func run(_ arguments: Arguments) throws(Failure) -> Int32 {
        if arguments.wantsHelp {
            Console.output(Arguments.help)
            return 0
        }
        let guarded = try column(guarded: true, arguments)
        let unguarded = try column(guarded: false, arguments)
        if arguments.writesJSON {
            Console.output("{\"guarded\":\(guarded.json),\"unguarded\":\(unguarded.json)}\n")
        } else {
            Console.output(Table(guarded: guarded, unguarded: unguarded, children: arguments.children).text)
        }
        return guarded.isPerfect(children: arguments.children) ? 0 : 1
    }

    // ---- a column ----

    private static func column(guarded: Bool, _ arguments: Arguments) throws(Failure) -> ColumnResult {
        if let (host, port) = arguments.redis { return try column(guarded: guarded, server: try find(host, port), arguments) }
        // One of its own for each, so that what one leaves behind does not slow the other.
        let server = try start([serverName])
        guard let port = server.readLine(timeout: 10 * MonotonicClock.second).flatMap({ UInt16($0.dropLast()) }) else {
            throw Failure(status: EX_OSERR, message: "the embedded server did not start")
        }
        return try column(guarded: guarded, server: try find("127.0.0.1", port), arguments)
    }

    private static func column(guarded: Bool, server: ServerAddress, _ arguments: Arguments) throws(Failure) -> ColumnResult {
        let column = ColumnProcess(
            guarded: guarded, server: server, children: arguments.children, threads: arguments.threads, seed: arguments.seed ?? 0)
        let plan = WorkloadPlan(children: arguments.children, threads: arguments.threads, seed: 0, guarded: guarded)
        let process = try start(column.arguments)
        let longest = plan.longest + plan.childDeadline + 60 * MonotonicClock.second
        guard let line = process.readLine(timeout: longest), let result = ColumnResult(line: line) else {
            Console.progress("")
            let title = Table.title(guarded: guarded)
            throw Failure(status: EX_SOFTWARE, message: "the process of the column '\(title)' ended, or hung, without a result")
        }
        return result
    }

    private static func start(_ arguments: [String]) throws(Failure) -> Subprocess {
        do {
            return try Subprocess(arguments: arguments)
        } catch {
            throw Failure(status: EX_OSERR, message: "cannot start itself once more: \(error.description)")
        }
    }

    // ---- the server ----

    /// The first address of it where a server answers.
    private static func find(_ host: String, _ port: UInt16) throws(Failure) -> ServerAddress {
        let name = host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        var problems: [String] = []
        for address in try addresses(host, port, name) {
            switch ping(address) {
            case .success(.simple(Array("PONG".utf8))): return address
            case .success(.error(let text)): problems.append("\(address.host): it refuses: \(String(decoding: text, as: UTF8.self))")
            case .success: problems.append("\(address.host): it does not answer PING with PONG")
            case .failure(let error): problems.append("\(address.host): \(error)")
            }
        }
        throw Failure(status: EX_UNAVAILABLE, message: "no Redis server at \(name) (\(problems.joined(separator: "; ")))")
    }

    private static func ping(_ address: ServerAddress) -> Result<RESP.Reply, any Error> {
        Result { try Connection(to: address, timeout: 3 * MonotonicClock.second, guarded: false).ask([Array("PING".utf8)]) }
    }

    private static func addresses(_ host: String, _ port: UInt16, _ name: String) throws(Failure) -> [ServerAddress] {
        do {
            return try ServerAddress.all(of: host, port: port)
        } catch {
            throw Failure(status: EX_UNAVAILABLE, message: "no Redis server at \(name): \(error.why)")
        }
    }
}
