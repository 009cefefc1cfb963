import ForkGuard
import ForkGuardTesting
import Glibc
import XCTest

/// Numbers are closed and opened again by some threads while others still use what they stood for.
final class DescriptorReuseTests: XCTestCase {
    /// Each opening has a stamp, and only messages with its stamp may arrive at it.
    func test_behaviour32_aStaleTokenNeverTouchesAStranger() throws {
        let desk = Desk(tokens: true)
        let hammers = desk.hammers
        var children = 0
        while desk.counts.reuses < 30_000, children < 2000 {
            let counts = try ForkTesting.repeated(20, while: hammers) { context in
                // All are the parent's: by a token nothing is touched, by the bare number nothing can be.
                for opening in desk.openings {
                    for end in [opening.near, opening.far] {
                        expectStale(context) { try end.token!.withNumber { _ in } }
                        var stamp = UInt64.max
                        context.expect(
                            Glibc.send(end.number, &stamp, 8, Int32(MSG_DONTWAIT | MSG_NOSIGNAL)) < 0,
                            "sent by an inherited number")
                    }
                }
            }
            XCTAssert(counts.succeeded, "\(counts)")
            children += 20
        }
        desk.clear()
        let counts = desk.counts
        print("behaviour32: \(counts), \(children) children")
        XCTAssertGreaterThanOrEqual(counts.reuses, 30_000)
        XCTAssertEqual(counts.strangers, 0)
        XCTAssertGreaterThan(counts.sent, 1000)
        XCTAssertGreaterThan(counts.refused, 1000)
        XCTAssertEqual(counts.children, 0, "what a child sent arrived")
    }

    func test_behaviour32_control_bareNumbersTouchStrangers() throws {
        let desk = Desk(tokens: false)
        let hammers = desk.hammers
        // Nothing is asked of the child: the fork is there for the same load.
        for _ in 0..<200 where desk.counts.reuses < 3000 { _ = try ForkTesting.repeated(1, while: hammers) { _ in } }
        desk.clear()
        let counts = desk.counts
        print("behaviour32, control: \(counts)")
        XCTAssertGreaterThan(counts.strangers, 100)
    }
}

private func expectStale(_ context: ForkContext, _ body: () throws -> Void) {
    do {
        try body()
        context.fail("an inherited token could be used")
    } catch ForkError.staleGeneration {
    } catch {
        context.fail("an inherited token: \(error)")
    }
}

/// Pairs of sockets in slots. Some threads replace them, others send to those that they saw before.
private final class Desk: Sendable {
    struct End {
        let number: Int32
        let token: ForkDescriptor?

        func close() {
            if let token { try? token.close() } else { Glibc.close(number) }
        }

        func withNumber(_ body: (Int32) -> Int) -> Int? {
            if let token { try? token.withNumber(body) } else { body(number) }
        }
    }

    /// Of one number at a time, what stands for it.
    struct Opening {
        let stamp: UInt64
        let near: End
        let far: End
    }

    struct Counts: CustomStringConvertible {
        var openings = 0
        var reuses = 0  // of numbers that had been closed before
        var sent = 0
        var refused = 0  // the number was not open, or the token was stale
        var arrived = 0
        var strangers = 0  // arrived at another opening than they were sent to
        var children = 0  // sent by a child

        var description: String {
            "\(reuses) reuses of a number, \(sent) sent, \(refused) refused, \(arrived) arrived, \(strangers) of them at a stranger's"
        }
    }

    private struct State {
        var slots: [Opening] = []
        var seen: [Opening] = []  // some are stale
        var numbers: Set<Int32> = []
        var counts = Counts()
        var turn = 0
    }

    private let usesTokens: Bool
    private let state = ForkMutex(State(), name: "desk")

    init(tokens: Bool) {
        usesTokens = tokens
        for _ in 0..<8 {
            let opening = open()
            state.withLock { state in
                state.slots.append(opening)
                state.seen.append(opening)
            }
        }
    }

    var hammers: [@Sendable () -> Void] {
        Array(repeating: { @Sendable in self.replace() }, count: 3) + Array(repeating: { @Sendable in self.send() }, count: 3)
    }

    var openings: [Opening] { state.withLock { $0.slots } }
    var counts: Counts { state.withLock { $0.counts } }

    private func open() -> Opening {
        // Forks are held off until both are known.
        let (near, far) = ForkGuard.withForkPrevented {
            var numbers: [Int32] = [-1, -1]
            guard socketpair(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &numbers) == 0 else {
                preconditionFailure("socketpair: \(errno)")
            }
            let ends = numbers.map { End(number: $0, token: usesTokens ? try! ForkDescriptor(adopting: $0, name: "end") : nil) }
            return (ends[0], ends[1])
        }
        return state.withLock { state in
            state.counts.openings += 1
            for end in [near, far] where !state.numbers.insert(end.number).inserted { state.counts.reuses += 1 }
            return Opening(stamp: UInt64(state.counts.openings), near: near, far: far)
        }
    }

    /// Hammered: a new opening in place of the next one, which is closed.
    func replace() {
        let fresh = open()
        let old = state.withLock { state in
            state.turn += 1
            let slot = state.turn % state.slots.count
            defer { state.slots[slot] = fresh }
            state.seen[(state.turn / state.slots.count) % state.seen.count] = fresh
            return state.slots[slot]
        }
        finish(old)
    }

    /// Hammered: sends to an opening that was seen at some time.
    func send() {
        let opening = state.withLock { $0.seen.randomElement()! }
        var stamp = opening.stamp
        let sent = opening.near.withNumber { Glibc.send($0, &stamp, 8, Int32(MSG_DONTWAIT | MSG_NOSIGNAL)) }
        state.withLock { state in
            if let sent, sent >= 0 { state.counts.sent += 1 } else { state.counts.refused += 1 }
        }
    }

    func clear() {
        let openings = state.withLock { state in
            defer { state.slots = [] }
            return state.slots
        }
        for opening in openings { finish(opening) }
    }

    /// Closes it, the near end first, and looks at what has come to both ends.
    private func finish(_ opening: Opening) {
        var stamps = received(opening.near).map { ($0, false) }
        opening.near.close()
        stamps += received(opening.far).map { ($0, $0 == opening.stamp) }
        opening.far.close()
        state.withLock { state in
            state.counts.arrived += stamps.count
            state.counts.strangers += stamps.count { !$0.1 }
            state.counts.children += stamps.count { $0.0 == .max }
        }
    }

    private func received(_ end: End) -> [UInt64] {
        var stamps: [UInt64] = []
        _ = end.withNumber { number in
            var stamp: UInt64 = 0
            while recv(number, &stamp, 8, Int32(MSG_DONTWAIT)) == 8 { stamps.append(stamp) }
            return 0
        }
        return stamps
    }
}
