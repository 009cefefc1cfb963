import CForkGuard
import CForkGuardTesting
import ForkGuard
import ForkGuardTesting
import Glibc
import Synchronization

@_silgen_name("fork")
private func forkByLibc() -> Int32

/// The process that is forked: 16 threads, of which five fork, and what they share.
final class Soak: Sendable {
    /// Both are the same whenever nobody is inside.
    struct Pair {
        var left: UInt64 = 0
        var right: UInt64 = 0
        static let halfChanged = Pair(left: 1, right: 0)
        var isWhole: Bool { left == right }
    }

    /// The forks that the forkers have still to begin, and those that are under way.
    struct Lap {
        var remaining = 0
        var deniedRemaining = 0
        var underWay = 0
        var number = 0
    }

    static let lockCount = 10_000, forksInLap = 100, deniedInLap = 6, patience = Duration.seconds(60)

    let locks = (0..<lockCount).map { _ in ForkMutex(Pair(), ifTorn: .rebuild { .halfChanged }) }
    static let forkersLock = "a forker's"
    /// One for each fork that is under way on a thread that is inside.
    let forkersLocks = (0..<16).map { _ in ForkMutex(Pair(), name: forkersLock, ifTorn: .rebuild { .halfChanged }) }
    let pool: ForkPool<Resource>
    let restarting: ForkWorker<Int, Int>
    let stopping: ForkWorker<Int, Int>
    let connection: ForkDescriptor
    let tally = ForkMutex(Tally(), name: "tally")
    let lap = ForkMutex(Lap(), name: "lap")
    let lapChanged = ForkCondition(name: "lap changed")
    let stops = Atomic<Bool>(false)
    /// Of the hook that stays: how often each phase ran, in this process and its ancestors.
    let prepared = Atomic<Int>(0)
    let ended = Atomic<Int>(0)
    let unguarded: Bool

    init(unguarded: Bool) throws {
        self.unguarded = unguarded
        pool = try ForkPool(name: "pipes", maximum: 3, close: { $0.close() }) { try Resource() }
        restarting = try ForkWorker(name: "restarting") { $0 + 1 }
        stopping = try ForkWorker(name: "stopping", inChild: .staysStopped) { $0 + 1 }
        connection = try ForkDescriptor(name: "connection") { open("/dev/null", O_RDWR | O_CLOEXEC) }
        ForkGuard.onFork(
            name: "stays", prepare: { [unowned self] in prepared.add(1, ordering: .relaxed) },
            parent: { [unowned self] in ended.add(1, ordering: .relaxed) }, child: { [unowned self] in ended.add(1, ordering: .relaxed) })
        try pool.withResource { _ in }
        _ = try restarting.call(0, timeout: Self.patience)
        _ = try stopping.call(0, timeout: Self.patience)
    }

    // MARK: the threads

    /// 16 threads, beside the main one and the two workers' own.
    func start() -> [SystemThread] {
        let kinds: [(name: String, count: Int, step: @Sendable (Soak, inout SystemRandomNumberGenerator) -> Void)] = [
            ("hammer", 7, { $0.hammer(&$1) }), ("pool", 2, { soak, _ in soak.usePool() }), ("worker", 1, { soak, _ in soak.useWorker() }),
        ]
        var threads = kinds.flatMap { kind in
            (0..<kind.count).map { _ in
                SystemThread(kind.name) { [self] in
                    var random = SystemRandomNumberGenerator()
                    while !stops.load(ordering: .relaxed) { kind.step(self, &random) }
                }
            }
        }
        threads.append(SystemThread("hooks") { [self] in comeAndGo() })
        threads += (0..<4).map { _ in SystemThread("forker") { [self] in forks(\.remaining) { forkOnce($0) } } }
        threads.append(
            SystemThread("denied") { [self] in
                denyForks()
                forks(\.deniedRemaining) { _ in forkDenied() }
            })
        return threads
    }

    private func hammer(_ random: inout SystemRandomNumberGenerator) {
        // The second lock while it holds the first, in whatever order.
        let first = Int.random(in: 0..<Self.lockCount, using: &random), second = Int.random(in: 0..<Self.lockCount, using: &random)
        locks[first].withLock { pair in
            pair.left &+= 1
            if first != second { _ = locks[second].withLockIfAvailable { Self.change(&$0) } }
            pair.right &+= 1
        }
        // Two processors for 16 threads and their children: the hammers leave some of that to the others.
        usleep(100)
    }

    static func change(_ pair: inout Pair) {
        pair.left &+= 1
        sched_yield()
        pair.right &+= 1
    }

    private func usePool() {
        do {
            let works = try pool.withResource(timeout: Self.patience) { $0.generation == ForkGuard.generation && $0.works() }
            if !works { wrong("a pipe of the pool does not work") }
        } catch ForkError.system(_, errno: EMFILE) {
            // The fault of this lap.
        } catch { wrong("the pool: \(error)") }
        usleep(300)
    }

    private func useWorker() {
        do {
            guard try restarting.call(41, timeout: Self.patience) == 42 else { return wrong("the worker's answer is not its own") }
        } catch { wrong("the worker: \(error)") }
        usleep(300)
    }

    /// Hooks that come and go, 32 at a time.
    private func comeAndGo() {
        func new() -> ForkRegistration {
            let memory = [UInt8](repeating: 1, count: 64)
            return ForkGuard.onFork(prepare: { _ = memory.count }, child: { _ = memory.count })
        }
        var live = (0..<32).map { _ in new() }
        while !stops.load(ordering: .relaxed) {
            live.removeFirst().cancel()
            live.append(new())
            usleep(500)
        }
        for registration in live { registration.cancel() }
    }

    /// Takes part in laps until the end, which is below 0.
    private func forks(_ remaining: WritableKeyPath<Lap, Int>, _ fork: (Int) -> Void) {
        while true {
            let ticket = try! lapChanged.wait(lap, timeout: .seconds(86_400)) {
                $0[keyPath: remaining] != 0
            } _: { lap -> Int in
                guard lap[keyPath: remaining] > 0 else { return -1 }
                lap[keyPath: remaining] -= 1
                lap.underWay += 1
                lap.number += 1
                return lap.number
            }
            guard ticket >= 0 else { return }
            fork(ticket)
            lap.withLock { $0.underWay -= 1 }
            lapChanged.broadcast()
        }
    }

    /// So many forks by the forkers; returns when all have ended.
    func runLap(_ count: Int) throws {
        lap.withLock {
            $0.deniedRemaining = min(Self.deniedInLap, count)
            $0.remaining = count - $0.deniedRemaining
        }
        lapChanged.broadcast()
        try lapChanged.wait(lap, timeout: Self.patience * 10) {
            $0.remaining == 0 && $0.deniedRemaining == 0 && $0.underWay == 0
        } _: { _ in
        }
    }

    func stop(_ threads: [SystemThread]) {
        stops.store(true, ordering: .relaxed)
        lap.withLock { ($0.remaining, $0.deniedRemaining) = (-1, -1) }
        lapChanged.broadcast()
        for thread in threads { thread.join() }
    }

    // MARK: forks

    private func forkOnce(_ number: Int) {
        let generation = ForkGuard.generation
        let body: @Sendable () -> Int32 = { [self] in look(number, parent: generation, nesting: number % 10 == 3).rawValue }
        if unguarded { return forkUnguarded(body) }
        do {
            switch number % 4 {
            case 0: try account(ForkGuard.fork(body), nested: number % 10 == 3)
            case 1: try account(ForkGuard.fork(options: .onCallingThread, body), nested: number % 10 == 3)
            case 2: account(rawFork(body), nested: number % 10 == 3)
            default:
                // The fork of a thread that is inside itself: its lock stays its own.
                let held = forkersLocks[number % forkersLocks.count]
                let child = held.withLock { pair -> pid_t in
                    pair.left &+= 1
                    defer { pair.right &+= 1 }
                    return rawFork { 0 }
                }
                account(child, nested: false)
            }
        } catch { wrong("fork \(number): \(error)", \.failed) }
    }

    private func rawFork(_ body: () -> Int32) -> pid_t {
        let child = forkByLibc()
        if child == 0 { forkguard_child_exit(body()) }
        return child
    }

    private func forkUnguarded(_ body: () -> Int32) {
        let child = fgt_fork(Int32(FGT_UNDERSCORE_FORK))
        if child == 0 { forkguard_child_exit(body()) }
        account(child, nested: false)
    }

    private func forkDenied() {
        do {
            _ = try ForkGuard.fork { Finding.notTorn.rawValue }
            wrong("a fork that the kernel was to refuse", \.failed)
        } catch ForkError.forkFailed(errno: EAGAIN) {
            tally.withLock { $0.refusedByKernel += 1 }
        } catch { wrong("a fork that the kernel refused: \(error)", \.failed) }
    }

    /// A holder outlasts the deadline: `ForkGuard.fork` refuses, a raw fork goes ahead, and its child is told what is torn. Nobody else
    /// forks meanwhile, because the deadline is everybody's.
    func forkLate(raw: Bool) {
        let late = ForkMutex(Pair(), name: "held too long", ifTorn: .rebuild { .halfChanged })
        let state = ForkMutex((holds: false, over: false), name: "state"), changed = ForkCondition()
        let holder = SystemThread("late") {
            late.withLock { pair in
                pair.left += 1
                state.withLock { $0.holds = true }
                changed.broadcast()
                try! changed.wait(state, timeout: Self.patience) {
                    $0.over
                } _: { _ in
                }
                pair.right += 1
            }
        }
        try! changed.wait(state, timeout: Self.patience) {
            $0.holds
        } _: { _ in
        }
        let usual = ForkGuard.deadline, generation = ForkGuard.generation
        ForkGuard.deadline = .milliseconds(50)
        if raw {
            let child = rawFork {
                guard let report = ForkGuard.lastReport, report.tornHolders.contains(where: { $0.lockName == "held too long" }) else {
                    return Finding.report.rawValue
                }
                guard late.withLock({ !$0.isWhole }) else { return Finding.notTorn.rawValue }
                // Others that the machine has not let run are late too, and torn.
                if report.tornCount > 1 {
                    return (report.tornHolders.allSatisfy { $0.torn == .pastDeadline } ? Finding.whole : .report).rawValue
                }
                return look(0, parent: generation, nesting: false, torn: 1).rawValue
            }
            account(child, as: \.toldTorn)
        } else {
            do {
                _ = try ForkGuard.fork { Finding.torn.rawValue }
                wrong("ForkGuard.fork went ahead beside a holder that outlasted the deadline", \.failed)
            } catch ForkError.timedOut {
                tally.withLock { $0.refusedLate += 1 }
            } catch { wrong("ForkGuard.fork beside a holder that outlasted the deadline: \(error)", \.failed) }
        }
        ForkGuard.deadline = usual
        state.withLock { $0.over = true }
        changed.broadcast()
        holder.join()
    }

    /// A thread ended inside: later children are told.
    func forkAfterEndInside() {
        let left = UnsafeMutablePointer<forkguard_lock_t>.allocate(capacity: 1)
        defer { left.deallocate() }
        forkguard_lock_init(left, nil, nil, 0)
        nonisolated(unsafe) let lock = left  // freed after both the thread and the child have ended
        SystemThread("ends inside") { _ = forkguard_lock(lock) }.join()
        let generation = ForkGuard.generation
        let child = rawFork {
            guard forkguard_lock(lock) == FORKGUARD_TORN.rawValue else { return Finding.notTorn.rawValue }
            forkguard_unlock(lock)
            return look(0, parent: generation, nesting: false).rawValue
        }
        account(child, as: \.toldTorn)
    }

    /// No descriptor is to be had, by anybody.
    func forkWithoutDescriptors() {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        let usual = limit
        limit.rlim_cur = 3
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        defer { var usual = usual; setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &usual) }
        let generation = ForkGuard.generation
        do {
            try account(
                ForkGuard.fork { [self] in look(0, parent: generation, nesting: false, descriptors: false).rawValue }, nested: false)
        } catch { wrong("a fork without descriptors: \(error)", \.failed) }
    }

    // MARK: the child

    /// What a child finds. `torn`: of how many locks the report is to say so.
    private func look(_ number: Int, parent: UInt64, nesting: Bool, torn: Int = 0, descriptors: Bool = true) -> Finding {
        guard ForkGuard.generation == parent + 1 else { return .generation }
        // A raw fork does not wait for a thread that waits for its own turn, whatever that holds; and says so. Beside a deadline of 50 ms a hook that
        // the machine has not let run is one that outlasts it.
        guard let report = ForkGuard.lastReport, report.side == .child, report.hookFailureCount == 0 || torn > 0,
            report.tornHolders.filter({ $0.lockName != Self.forkersLock || $0.torn != .waitingToFork }).count == torn
        else {
            say("fork \(number), \(torn) torn: \(ForkGuard.lastReport.map { "\($0)" } ?? "no report")")
            return .report
        }
        // All of them in some children, a hundred in each.
        let step = number % 50 == 0 ? 1 : Self.lockCount / 100
        for index in stride(from: number % step, to: Self.lockCount, by: step) {
            guard locks[index].withLock({ $0.isWhole }) else { return .halfChanged }
        }
        guard prepared.load(ordering: .relaxed) == ended.load(ordering: .relaxed) else { return .hooks }
        guard isStale({ try connection.withNumber { _ in } }) else { return .descriptor }
        guard isStale({ _ = try stopping.submit(1, timeout: Self.patience) }) else { return .stoppedWorker }
        if descriptors {
            guard (try? pool.withResource { $0.generation == ForkGuard.generation && $0.works() }) == true else { return .pool }
        }
        guard (try? restarting.call(number, timeout: Self.patience)) == number + 1 else { return .worker }
        guard nesting else { return .whole }
        let generation = ForkGuard.generation
        let child = try? ForkGuard.fork { [self] in look(number, parent: generation, nesting: false).rawValue }
        return (try? child?.wait(timeout: Self.patience)) == .exited(0) ? .whole : .nested
    }

    private func isStale(_ use: () throws -> Void) -> Bool {
        do { try use() } catch ForkError.staleGeneration { return true } catch {}
        return false
    }

    // MARK: accounts

    private func account(_ child: ChildProcess, nested: Bool) { account(child.pid, nested: nested) }

    private func account(_ child: pid_t, nested: Bool) {
        account(child, as: \.whole)
        if nested { tally.withLock { $0.nested += 1 } }
    }

    private func account(_ child: pid_t, as kind: WritableKeyPath<Tally, Int>) {
        guard child > 0 else { return wrong("fork(2) failed with \(errno)", \.failed) }
        let descriptor = forkguard_child_open(child)
        defer { if descriptor >= 0 { close(descriptor) } }
        let patience = Int64(Self.patience.components.seconds) * 1_000_000_000
        if forkguard_child_wait(child, descriptor, patience) == ETIMEDOUT {
            wrong("child \(child) hangs:\n\(ProcessStack.read(child))", \.hung)
            kill(child, SIGKILL)
            var status: Int32 = 0
            waitpid(child, &status, 0)
            return
        }
        var status: Int32 = 0
        guard forkguard_child_reap(child, &status) == 0 else { return wrong("child \(child) was reaped by somebody else", \.lost) }
        guard status == 0 else {
            let finding =
                status & 0x7f == 0 ? Finding(rawValue: status >> 8).map { "\($0)" } ?? "exit \(status >> 8)" : "signal \(status & 0x7f)"
            return wrong("child \(child): \(finding)", \.failed)
        }
        tally.withLock { $0[keyPath: kind] += 1 }
    }

    /// Says so; only the first ten times on standard error.
    private func wrong(_ what: String, _ kind: WritableKeyPath<Tally, Int> = \.failed) {
        let count = tally.withLock { tally in
            tally[keyPath: kind] += 1
            return tally.wrong
        }
        if count <= 10 { say(what) }
        if unguarded { exit(1) }  // what more goes wrong there takes time
    }
}
