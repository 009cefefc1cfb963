import CEpoll
import EventLoop
import ForkGuard
import ForkGuardTesting
import Glibc
import Wire
import XCTest

/// aiohttp on asyncio: a loop that watches numbers. A connect is given up in one thread, another thread opens the number anew, and the loop
/// still takes it for what it was; and a child that clears up removes the parent's registrations.
final class AsyncioTests: XCTestCase {
    private func redis() throws -> ServerAddress {
        let (host, port) = try Servers.redis()
        return try ServerAddress(host: host, port: port)
    }

    // ---- a connect is given up ----

    func test_asyncio_aConnectIsGivenUpWhileItsNumberIsOpenedAnew() throws {
        let redis = try redis()
        let loop = EventLoop()
        try loop.start()
        let tally = Tally()
        let user: @Sendable () -> Void = {
            do {
                let client = try EchoClient(loop, to: redis)
                defer { client.close() }
                tally.add(try client.echo("parent-\(tally.next())") ? "right" : "wrong")
            } catch {
                tally.add("failed", 1, "\(error)")
            }
        }
        let givesUp: @Sendable () -> Void = {
            do {
                let token = try beginConnect(to: redis)
                let registration = try loop.add(token, .writable) { _ in }
                try token.close()
                // In the loop's next turn, as asyncio does.
                let removed = Answers()
                try loop.schedule {
                    loop.remove(registration)
                    removed.add([1])
                }
                _ = try removed.take(1, timeout: .seconds(10))
                tally.add("given up")
            } catch {
                tally.add("failed", 1, "\(error)")
            }
        }
        user()
        let counts = try ForkTesting.repeated(100, while: [user, user, givesUp, givesUp]) { context in
            try loop.start()
            let client = try EchoClient(loop, to: redis)
            for request in 0..<5 { context.expect(try client.echo("child-\(context.repetition)-\(request)"), "another's answer") }
            client.close()
            loop.stop()
            try loop.waitUntilStopped(timeout: .seconds(5))
        }
        loop.stop()
        try loop.waitUntilStopped(timeout: .seconds(5))
        print("asyncio: \(tally), events for nobody \(loop.dropped); children \(counts)")
        XCTAssert(counts.succeeded, "\(counts)")
        XCTAssertGreaterThan(tally["right"], 100)
        XCTAssertGreaterThan(tally["given up"], 100)
        XCTAssertEqual(tally["wrong"] + tally["failed"], 0, "\(tally)")
    }

    func test_asyncio_control_aConnectIsGivenUpWhileItsNumberIsOpenedAnew() throws {
        let redis = try redis()
        let loop = NumberLoop()
        let tally = Tally()
        let user: @Sendable () -> Void = {
            guard tally["deaf"] + tally["refused"] < 200, let connection = try? Connection(to: redis, timeout: .seconds(10)) else { return }
            let answered = Answers()
            do {
                var number: Int32 = -1
                var linger = linger(l_onoff: 1, l_linger: 0)
                try connection.token.withNumber {
                    number = $0
                    setsockopt($0, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
                }
                try loop.add(number, EPOLLIN) { answered.add([1]) }
                defer { loop.remove(number) }
                try connection.send(Array("PING\r\n".utf8), Deadline(in: .seconds(1)))
                _ = try answered.take(1, timeout: .milliseconds(200))
                tally.add("right")
            } catch is NumberLoop.IsUsed {
                tally.add("refused")
            } catch {
                tally.add("deaf", 1, "\(error)")
            }
        }
        let givesUp: @Sendable () -> Void = {
            guard tally["deaf"] + tally["refused"] < 200, let number = try? beginConnect(to: redis).release() else { return }
            if (try? loop.add(number, EPOLLOUT) {}) != nil { tally.add("given up") }
            close(number)
            loop.soon { loop.remove(number) }
        }
        for _ in 0..<50 where tally["deaf"] + tally["refused"] < 20 {
            _ = try ForkTesting.repeated(5, while: [user, user, givesUp, givesUp, { loop.turn(milliseconds: 1) }]) { _ in }
        }
        print("asyncio, control (refused: the number is watched for somebody else; deaf: no event in 200 ms): \(tally)")
        XCTAssertGreaterThan(tally["deaf"] + tally["refused"], 10)
    }

    // ---- a child leaves ----

    func test_behaviour33_theChildLeavesEpollAndTheParentGoesOnHearing() throws {
        let redis = try redis()
        let loop = EventLoop()
        try loop.start()
        let clients = try (0..<4).map { _ in try EchoClient(loop, to: redis) }
        let tally = Tally()
        // Each client by a thread of its own: they are the parent's in all of these forks.
        let hammers = clients.map { client in
            { @Sendable in
                do {
                    tally.add(try client.echo("\(tally.next())") ? "right" : "wrong")
                } catch {
                    tally.add("failed", 1, "\(error)")
                }
            }
        }
        try ForkTesting.repeated(60, while: hammers) { context in
            // Every way to leave: one at a time, and all of it.
            for client in clients { loop.remove(client.registration) }
            for client in clients { client.close() }
            do {
                try loop.modify(clients[0].registration, .writable)
                context.fail("the parent's registration could be changed")
            } catch ForkError.staleGeneration {
            }
            try loop.start()
            let client = try EchoClient(loop, to: redis)
            context.expect(try client.echo("child"), "another's answer")
            client.close()
            loop.stop()
            try loop.waitUntilStopped(timeout: .seconds(5))
        }.expectAll("behaviour33")
        for request in 0..<1000 where try !clients[request % 4].echo("after-\(request)") { tally.add("wrong") }
        print("behaviour33: \(tally), then 1000 more")
        XCTAssertGreaterThan(tally["right"], 100)
        XCTAssertEqual(tally["wrong"] + tally["failed"], 0, "\(tally)")
        loop.stop()
        try loop.waitUntilStopped(timeout: .seconds(5))
    }

    func test_behaviour33_control_removingInTheChildDeafensTheParent() throws {
        let redis = try redis()
        let tally = Tally()
        for _ in 0..<10 {
            let loop = NumberLoop()
            let number = try beginConnect(to: redis).release()
            defer { close(number) }
            let answers = Answers()
            try loop.add(number, EPOLLIN) {
                var bytes = [UInt8](repeating: 0, count: 64)
                let count = recv(number, &bytes, 64, Int32(MSG_DONTWAIT))
                answers.add(Array(bytes.prefix(max(0, count))))
            }
            func ping() -> Bool {
                var writable = pollfd(fd: number, events: Int16(POLLOUT), revents: 0)
                poll(&writable, 1, 1000)
                send(number, "PING\r\n", 6, Int32(MSG_NOSIGNAL))
                loop.turn(milliseconds: 300)
                return (try? answers.take(7, timeout: .zero)) != nil
            }
            if ping() { tally.add("heard before") }
            let outcome = try ForkTesting.run(while: [{ loop.turn(milliseconds: 1) }]) { _ in
                // As a good citizen: it removes what it does not need before it closes it.
                loop.remove(number)
                close(number)
            }
            XCTAssert(outcome.succeeded, "\(outcome)")
            tally.add(ping() ? "heard after" : "deaf after")
        }
        print("behaviour33, control: \(tally)")
        XCTAssertEqual(tally["heard before"], 10)
        XCTAssertEqual(tally["deaf after"], 10)
    }
}
