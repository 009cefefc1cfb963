#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif
import ForkGuard

/// One column of the table, run in a process of its own so that neither disturbs the other.
struct ColumnProcess {
    let guarded: Bool
    let host: String
    let port: UInt16
    let children: Int
    let threads: Int
    let seed: UInt64

    /// What the demo starts itself with.
    var arguments: [String] {
        [Self.name, guarded ? "guarded" : "unguarded", host, String(port), String(children), String(threads), String(seed)]
    }

    static let name = "--internal-column"

    init(guarded: Bool, server: ServerAddress, children: Int, threads: Int, seed: UInt64) {
        self.guarded = guarded
        host = server.host
        port = server.port
        self.children = children
        self.threads = threads
        self.seed = seed
    }

    /// `nil`: not such arguments.
    init?(arguments: [String]) {
        guard arguments.count == 7, arguments[0] == Self.name, ["guarded", "unguarded"].contains(arguments[1]),
            let port = UInt16(arguments[3]), let children = Int(arguments[4]), let threads = Int(arguments[5]),
            let seed = UInt64(arguments[6])
        else { return nil }
        guarded = arguments[1] == "guarded"
        host = arguments[2]
        self.port = port
        self.children = children
        self.threads = threads
        self.seed = seed
    }

    /// Runs it in this process. Tells the numbers on standard output; ends early when standard input does.
    func main() -> Int32 {
        signal(SIGPIPE, SIG_IGN)
        Subprocess.closeStrayDescriptors()
        let plan = WorkloadPlan(children: children, threads: threads, seed: seed, guarded: guarded)
        guard let rawFork = RawFork(), let records = ChildRecords(count: children) else {
            Console.error("libc does not export fork, or there is no memory: a static executable cannot run the demo")
            return EX_OSERR
        }
        guard let server = try? ServerAddress.all(of: host, port: port).first else { return EX_UNAVAILABLE }

        // The difference between the columns, all of it: the pool, the descriptors that its connections have, and the raw fork in place of ForkGuard.fork.
        let result: ColumnResult
        do {
            if guarded {
                let pool = try ForkPool(name: "redis", maximum: plan.connections, isHealthy: { $0.isQuiet }) {
                    try Connection(to: server, timeout: plan.timeout, guarded: true)
                }
                result = run(Workload(plan, pool: pool, rawFork: rawFork, records: records))
            } else {
                let pool = PlainPool(maximum: plan.connections, timeout: plan.timeout) {
                    try Connection(to: server, timeout: plan.timeout, guarded: false)
                }
                result = run(Workload(plan, pool: pool, rawFork: rawFork, records: records))
            }
        } catch {
            Console.error("\(error)")
            return EX_SOFTWARE
        }
        Console.output(result.line)
        return 0
    }

    private func run(_ workload: Workload<some ConnectionPool>) -> ColumnResult {
        workload.run(Table.title(guarded: guarded)) { Subprocess.isOrphan(waiting: 2) }
    }
}
