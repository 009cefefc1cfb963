import ForkGuard
import Glibc
import RedisClient
import Wire

/// Answers requests: what a child does. It is made in the parent.
struct Worker: Sendable {
    let listener: ForkDescriptor
    let redis: RedisClient
    let lifeline: Lifeline

    /// Until SIGTERM, or until the parent is gone. Answers what was asked before that.
    func run() async throws -> Int32 {
        let signals = signals(SIGTERM)
        let clients = try clients()
        try await withThrowingTaskGroup(of: Void.self) { ends in
            ends.addTask { for await _ in signals { return } }
            ends.addTask { try await lifeline.parentIsGone() }
            ends.addTask {
                await withDiscardingTaskGroup { group in
                    for await client in clients { group.addTask { await serve(client) } }
                    group.cancelAll()
                }
            }
            try await ends.next()
            ends.cancelAll()
            try await ends.waitForAll()
        }
        return 0
    }

    /// Each accepts from the same socket: often a sibling was faster.
    private func clients() throws -> AsyncStream<Connection> {
        try listener.withNumber { number in
            readings(of: number, as: Connection.self) { clients in
                do {
                    let client = try ForkDescriptor(name: "client") { try accept() }
                    clients.yield(Connection(client))
                } catch WireError.system(_, EMFILE) {
                    usleep(10_000)  // until there is a descriptor to be had
                } catch {
                    // A sibling was faster, or the client is gone again.
                }
            }
        }
    }

    private func accept() throws -> Int32 {
        let number = try listener.withNumber { Glibc.accept($0, nil, nil) }
        if number < 0 { throw WireError.system("accept", errno: errno) }
        _ = fcntl(number, F_SETFL, O_NONBLOCK)
        _ = fcntl(number, F_SETFD, FD_CLOEXEC)
        return number
    }

    private func serve(_ client: Connection) async {
        guard let received = try? received(by: client) else { return }
        var buffer: [UInt8] = []
        do {
            for await bytes in received {
                buffer += bytes
                while let request = try HTTPRequest(takenFrom: &buffer) {
                    let response = await response(to: request)
                    let isLast = !request.keepsAlive || Task.isCancelled
                    try client.send(response.bytes(isLast: isLast), Deadline(in: .seconds(1)))
                    if isLast { return }
                }
            }
        } catch let malformed as HTTPRequest.Malformed {
            try? client.send(HTTPResponse(400, malformed.description).bytes(isLast: true), Deadline(in: .seconds(1)))
        } catch {
            // The client is gone, or does not read.
        }
    }

    private func received(by client: Connection) throws -> AsyncStream<[UInt8]> {
        try client.token.withNumber { number in
            readings(of: number, as: [UInt8].self) { received in
                var bytes: [UInt8] = []
                do {
                    try client.receive(into: &bytes, Deadline(in: .zero))
                    // Whoever asks much faster than it is answered is let go.
                    if case .dropped = received.yield(bytes) { received.finish() }
                } catch WireError.timedOut {
                    // There was nothing after all.
                } catch {
                    received.finish()
                }
            }
        }
    }

    private func response(to request: HTTPRequest) async -> HTTPResponse {
        do {
            switch (request.method, request.path) {
            case ("GET", "/pid"): return HTTPResponse(200, "\(getpid())\n")
            case ("GET", "/echo"):
                guard let id = request.query["id"] else { return HTTPResponse(400, "/echo needs id=X") }
                let key = "preforking-server:echo:\(id)"
                let replies = try await redis.pipeline([["SET", key, id, "EX", "60"], ["GET", key]])
                guard let text = replies[1].text else { return HTTPResponse(503, "no answer from Redis") }
                return HTTPResponse(200, text)
            case ("GET", "/incr"):
                guard let key = request.query["key"] else { return HTTPResponse(400, "/incr needs key=K") }
                guard case .integer(let value)? = try await redis.pipeline([["INCR", "preforking-server:\(key)"]]).first else {
                    return HTTPResponse(503, "no number from Redis")
                }
                return HTTPResponse(200, "\(getpid()) \(value)\n")
            default: return HTTPResponse(404, "nothing at \(request.path)")
            }
        } catch {
            return HTTPResponse(503, "\(error)")
        }
    }
}
