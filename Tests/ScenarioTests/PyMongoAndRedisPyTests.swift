import FileLock
import ForkGuard
import ForkGuardTesting
import Glibc
import RedisClient
import Wire
import XCTest

/// What users of PyMongo and redis-py reported: a lock that a monitor thread has while it resolves a name, a connection that two processes talk on, a file offset that
/// they share, file locks that the child believes it has. See Docs/systems/pymongo-and-redis-py.md; PostgreSQL's part is in PostgresTests.
final class PyMongoAndRedisPyTests: XCTestCase {
    // ---- the resolver ----

    func test_control_aMonitorResolvesUnderTheClientsLock() throws {
        let lock = PlainLock()
        let counts = try ForkTesting.repeated(
            50, .rawFork, deadline: .seconds(1), stopAfterHung: 3, while: [{ lock.withLock { resolve() } }]
        ) { _ in lock.withLock {} }
        print("control: the client's lock is held while a name is resolved: \(counts.hung) of \(counts.made) children hung")
        XCTAssertEqual(counts.hung, 3, "the control did not fail: \(counts)")
    }

    func test_control_aThreadIsInsideGetaddrinfo() throws {
        let counts = try ForkTesting.repeated(
            600, .rawFork, deadline: .seconds(1), stopAfterHung: 5, while: [{ resolve() }]
        ) { _ in resolve() }
        print("control: getaddrinfo, no lock of the client's: \(counts.hung) of \(counts.made) children hung")
        XCTAssertEqual(counts.hung, 5, "the control did not fail: \(counts)")
        let stack = counts.firstProblem?.split(separator: "\n").filter { $0.contains("#") }.prefix(4).joined(separator: "\n") ?? ""
        print(stack)
        XCTAssert(counts.firstProblem?.contains("getaddrinfo") ?? false, "the stack does not say where: \(counts)")
    }

    func test_aForkWaitsForTheMonitor() throws {
        let redis = try RedisClient(try server(), connections: 4)
        let lock = ForkMutex(0, name: "the client's")
        let monitor: @Sendable () -> Void = {
            lock.withLock { resolved in
                ForkGuard.withForkPrevented({ resolve() }, name: "getaddrinfo")
                resolved += 1
            }
        }
        let resolver: @Sendable () -> Void = { ForkGuard.withForkPrevented({ resolve() }, name: "getaddrinfo") }
        let requests = Echoes(of: "parent") { try redis.send("ECHO", $0).text }
        requests.rehearse()
        for method in [ForkMethod.forkGuard, .rawFork] {
            let counts = try ForkTesting.repeated(100, expecting: true, method, while: [monitor, resolver, { requests.ask() }]) { context in
                context.expect(lock.withLock { $0 } > 0)
                resolve()
                return try redis.send("ECHO", "child").text == "child"
            }
            counts.expectAll("children that lock, resolve and ask, \(method)")
        }
        print("the parent's requests meanwhile: \(requests.counts)")
        XCTAssertEqual(requests.counts.right, requests.counts.asked, requests.firstError ?? "")
    }

    // ---- one connection, two processes ----

    func test_behaviour31_control_answersCross() throws {
        var inChildren = Echoes.Counts()
        var inParent = Echoes.Counts()
        for repetition in 0..<5 {
            let shared = try PlainRedis(port: try Servers.redis().port)
            let parent = Echoes(of: "parent\(repetition)", expecting: { _ in true }) { try shared.echo($0) }
            let outcome = try ForkTesting.run(.rawFork, while: [{ parent.ask() }]) { _ in
                Echoes(of: "child\(repetition)", expecting: { _ in true }) { try shared.echo($0) }.ask(100)
            }
            inChildren = inChildren + (try outcome.get())
            inParent = inParent + parent.counts
        }
        print("control: on one connection, children: \(inChildren); parent: \(inParent)")
        XCTAssertGreaterThan(inChildren.crossed + inParent.crossed, 0, "the control did not fail")
    }

    func test_behaviour31_noAnswerReachesTheWrongProcess() throws {
        let redis = try RedisClient(try server(), connections: 4)
        let parent = Echoes(of: "parent") { try redis.send("ECHO", $0).text }
        parent.rehearse()
        for method in [ForkMethod.forkGuard, .rawFork] {
            let before = parent.counts.asked
            let counts = try ForkTesting.repeated(
                25, expecting: .allRight(40), method, while: Array(repeating: { parent.ask() }, count: 4)
            ) { context in
                Echoes(of: "child\(context.repetition)") { try redis.send("ECHO", $0).text }.ask(40)
            }
            counts.expectAll("children with 40 right answers of 40, \(method)")
            XCTAssertGreaterThan(parent.counts.asked - before, 1000)
        }
        print("1,000 requests of children each way, and the parent's meanwhile: \(parent.counts)")
        XCTAssertEqual(parent.counts, .allRight(parent.counts.asked), parent.firstError ?? "")
        // The children have cost the parent no connection.
        XCTAssertLessThanOrEqual(redis.counters.made, 4)
    }

    func test_behaviour30_control_QUITEndsTheParentsConnection() throws {
        for way in LettingGo.allCases {
            let owned = Owned(try PlainRedis(port: try Servers.redis().port))
            XCTAssertEqual(try owned.get().echo("before"), "before")
            try way.inChildren(1, .rawFork, owned) { $0.quit() }
            XCTAssertThrowsError(try owned.get().echo("after"), "the control did not fail") {
                print("control: a child let go of the connection by \(way.rawValue), and the parent finds: \($0)")
            }
        }
    }

    func test_behaviour30_theChildDropsAnInheritedConnection() throws {
        let owned = Owned(try RedisClient(try server(), connections: 1))
        let id = try owned.get().send("CLIENT", "ID")
        for way in LettingGo.allCases {
            for method in ForkMethod.available where method != .rawCloneSharingFiles {
                try way.inChildren(3, method, owned) { $0.close() }
            }
            let requests = Echoes(of: "parent") { try owned.get().send("ECHO", $0).text }.ask(1000)
            XCTAssertEqual(requests, .allRight(1000))
            XCTAssertEqual(try owned.get().send("CLIENT", "ID"), id)
            print("children let go by \(way.rawValue); then the parent's on the same connection: \(requests)")
        }
        XCTAssertEqual(try owned.get().counters.made, 1)
    }

    func test_behaviour36_aNewClientInTheChildWorksToo() throws {
        let address = try server()
        let inherited = try RedisClient(address)
        @Sendable func areBothRight() throws -> Bool {
            let new = try RedisClient(address)
            let named = try RedisClient(ServerAddress(host: "localhost", port: address.port))
            let ids = try [new, named, inherited].map { try $0.send("CLIENT", "ID") }
            let words = try [new, named, inherited].map { try $0.send("ECHO", "word").text }
            new.close()
            return words == ["word", "word", "word"] && ids[0] != ids[1] && ids[1] != ids[2] && ids[2] != ids[0]
        }
        XCTAssert(try areBothRight() && areBothRight())
        for method in ForkMethod.available where method.runsForkHandlers {
            let counts = try ForkTesting.repeated(25, expecting: true, method, while: [{ _ = try? inherited.send("PING") }]) { _ in
                try areBothRight()
            }
            counts.expectAll("children with a new client and the old one, \(method)")
        }
    }

    // ---- one file, two processes ----

    func test_behaviour34_control_theOffsetIsShared() throws {
        let path = temporaryPath()
        let number = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        defer { close(number) }
        XCTAssertEqual(write(number, "12345", 5), 5)
        let before = lseek(number, 0, SEEK_CUR)
        let outcome = try ForkTesting.run(.rawFork) { _ in write(number, "67", 2) }
        XCTAssertEqual(try outcome.get(), 2)
        let after = lseek(number, 0, SEEK_CUR)
        print("control: the parent's offset before the child wrote: \(before), after: \(after)")
        XCTAssertEqual([before, after], [5, 7])
    }

    func test_behaviour34_eachProcessHasAnOffsetOfItsOwn() throws {
        let path = temporaryPath()
        let file = try ForkDescriptor(.reopen, name: "file") { open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600) }
        defer { try? file.close() }
        let written = ForkMutex(0, name: "bytes written")
        // A hammer writes five bytes at a time; the child two at once. A fork comes before or after a write and its count.
        let writer: @Sendable () -> Void = {
            written.withLock { sum in sum += (try? file.withNumber { write($0, "12345", 5) }) ?? 0 }
        }
        for method in ForkMethod.available where method.runsForkHandlers {
            let counts = try ForkTesting.repeated(100, method, while: [writer]) { context in
                let inherited = written.withLock { $0 }
                try file.withNumber { number in
                    context.expect(write(number, "67", 2) == 2)
                    context.expect(lseek(number, 0, SEEK_CUR) == inherited + 2, "not at its own offset")
                }
            }
            counts.expectAll("children with an offset of their own, \(method)")
        }
        let offset = try file.withNumber { lseek($0, 0, SEEK_CUR) }
        print("the parent wrote \(written.withLock { $0 }) bytes meanwhile, and its offset is \(offset)")
        XCTAssertEqual(offset, written.withLock { $0 })
    }

    // ---- file locks ----

    func test_fileLocks_control_theChildBelievesItHasTheParents() throws {
        let path = temporaryPath()
        let number = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        defer { close(number) }
        let isHeld = lock(number, setLock)  // What a client keeps in a variable.
        XCTAssert(isHeld)
        let outcome = try ForkTesting.run(.rawFork) { _ in [isHeld, lock(number, setLock)] }
        print("control: a record lock; the child believes \(try outcome.get()[0]), the kernel says \(try outcome.get()[1])")
        XCTAssertEqual(try outcome.get(), [true, false])
    }

    func test_fileLocks_control_aLockOfTheDescriptionIsHeldByBoth() throws {
        let path = temporaryPath()
        let number = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        let other = open(path, O_RDWR | O_CLOEXEC)
        defer {
            close(number)
            close(other)
        }
        XCTAssert(lock(number, setDescriptionLock))
        XCTAssertFalse(lock(other, setDescriptionLock))
        let outcome = try ForkTesting.run(.rawFork) { _ in
            [lock(number, setDescriptionLock), lock(number, setDescriptionLock, F_UNLCK)]
        }
        let taken = lock(other, setDescriptionLock)
        print("control: a lock of the open file description; the child has it, too; its unlock ended the parent's: \(taken)")
        XCTAssertEqual(try outcome.get(), [true, true])
        XCTAssert(taken, "the control did not fail")
    }

    func test_fileLocks_askedNotBelieved() throws {
        let parents = try FileLock(path: temporaryPath())
        let contended = try FileLock(path: temporaryPath())
        XCTAssert(try parents.tryLock())
        XCTAssert(parents.isHeld)
        XCTAssertFalse(try parents.tryLock())
        let hammer: @Sendable () -> Void = {
            _ = contended.isHeld
            if (try? contended.tryLock()) == true { try? contended.unlock() }
        }
        hammer()
        for method in ForkMethod.available where method.runsForkHandlers {
            let counts = try ForkTesting.repeated(25, method, while: [hammer, hammer]) { context in
                context.expect(!parents.isHeld, "believed")
                context.expect(try parents.holder() == context.runner, "held by somebody else")
                context.expect(try !parents.tryLock(), "taken twice")
                try parents.unlock()  // Not the child's: nothing.
                context.expect(try parents.holder() == context.runner, "the child ended the parent's lock")
                while try !contended.tryLock() {}
                context.expect(contended.isHeld, "not the child's")
                try contended.unlock()
            }
            counts.expectAll("children that ask who has the lock, \(method)")
            XCTAssert(parents.isHeld)
        }
        try parents.unlock()
        XCTAssertNil(try parents.holder())
        let taken = try ForkTesting.run { _ in try parents.tryLock() && parents.isHeld }
        XCTAssert(try taken.get(), "not free after the parent's unlock")
        XCTAssert(try parents.tryLock(), "not free after the child's end")
    }

    /// A child that ran no handlers has not got another description: it is refused, not deceived.
    func test_fileLocks_refusedInAChildThatRanNoHandlers() throws {
        let lock = try FileLock(path: temporaryPath())
        XCTAssert(try lock.tryLock())
        for method in ForkMethod.available where !method.runsForkHandlers {
            let outcome = try ForkTesting.run(method) { context in
                context.expect(!lock.isHeld)
                do {
                    _ = try lock.tryLock()
                    context.fail("not refused")
                } catch ForkError.staleGeneration {}
            }
            XCTAssert(outcome.succeeded, "\(method): \(outcome)")
        }
        XCTAssert(lock.isHeld)
    }

    // ---- help ----

    private func server() throws -> ServerAddress {
        let (host, port) = try Servers.redis()
        return try ServerAddress(host: host, port: port)
    }

    private func temporaryPath() -> String {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("forkguard-\(UUID().uuidString)").path
        addTeardownBlock { try? FileManager.default.removeItem(atPath: path) }
        return path
    }
}

/// As most clients ask: for the kinds of addresses that this machine has.
private func resolve() {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    hints.ai_flags = AI_ADDRCONFIG
    var first: UnsafeMutablePointer<addrinfo>?
    if getaddrinfo("localhost", "6379", &hints, &first) == 0 { freeaddrinfo(first) }
}

/// `F_SETLK`, and `F_OFD_SETLK`, which Swift's Glibc has not: fcntl(2).
private let setLock = F_SETLK
private let setDescriptionLock: Int32 = 37

private func lock(_ number: Int32, _ command: Int32, _ type: Int32 = F_WRLCK) -> Bool {
    var wanted = flock(l_type: Int16(type), l_whence: Int16(SEEK_SET), l_start: 0, l_len: 0, l_pid: 0)
    return fcntl(number, command, &wanted) == 0
}

/// A client's lock as clients have it.
private final class PlainLock: @unchecked Sendable {
    // @unchecked: a pthread mutex is made for use by several threads; the pointer is a constant.
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>

    init() {
        mutex = .allocate(capacity: 1)
        pthread_mutex_init(mutex, nil)
    }

    func withLock(_ body: () -> Void) {
        pthread_mutex_lock(mutex)
        body()
        pthread_mutex_unlock(mutex)
    }
}
