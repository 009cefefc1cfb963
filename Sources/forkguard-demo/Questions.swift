#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Asks questions whose answers only the asker can get, and judges the answers.
///
/// Every answer but the `+OK` of SET carries the process id of who asked; what a SET claims, the GET after it checks. Keys expire, so a real server
/// is left as it was.
struct Questions<Pool: ConnectionPool> {
    enum Verdict: Sendable {
        case right
        /// Not the answer to this question.
        case wrong
        /// The answer to another process's question, or that one too.
        case foreign
        /// No answer.
        case none(any Error)
    }

    private let pool: Pool
    private let thread: Int
    private var random: RandomNumbers
    private var asked = 0
    private var value: [UInt8] = []
    private var counter: Int64 = 0

    /// One's own numbers begin at the process id, times this.
    private static var counterStep: Int64 { 1_000_000 }

    init(_ pool: Pool, thread: Int, random: RandomNumbers) {
        self.pool = pool
        self.thread = thread
        self.random = random
    }

    mutating func ask() -> Verdict {
        let process = Int(getpid())
        let (command, expected) = next(process)
        do {
            let reply = try pool.withConnection { try $0.ask(command) }
            if reply == expected { return .right }
            return isForeign(reply, process) ? .foreign : .wrong
        } catch RedisError.surplus(let replies) {
            return replies.contains { isForeign($0, process) } ? .foreign : .wrong
        } catch {
            return .none(error)
        }
    }

    private mutating func next(_ process: Int) -> (command: [[UInt8]], expected: RESP.Reply) {
        asked += 1
        switch asked % 5 {
        case 1:
            value = unique(process)
            return (set("value", to: value, process), .simple(Array("OK".utf8)))
        case 2:
            return ([Array("GET".utf8), key("value", process)], .bulk(value))
        case 3:
            counter = Int64(process) * Self.counterStep + Int64(random.next(below: UInt64(Self.counterStep / 2)))
            var digits: [UInt8] = []
            digits.append(decimal: Int(counter))
            return (set("counter", to: digits, process), .simple(Array("OK".utf8)))
        case 4:
            return ([Array("INCR".utf8), key("counter", process)], .integer(counter + 1))
        default:
            let text = unique(process)
            return ([Array("ECHO".utf8), text], .bulk(text))
        }
    }

    /// `process:thread:number:random`.
    private mutating func unique(_ process: Int) -> [UInt8] {
        var text: [UInt8] = []
        text.append(decimal: process)
        for part in [thread, asked, Int(random.next() >> 1)] {
            text.append(UInt8(ascii: ":"))
            text.append(decimal: part)
        }
        return text
    }

    private func key(_ name: String, _ process: Int) -> [UInt8] {
        var key = Array("forkguard-demo:".utf8)
        key.append(decimal: process)
        key.append(UInt8(ascii: ":"))
        key.append(decimal: thread)
        key.append(UInt8(ascii: ":"))
        key.append(text: name)
        return key
    }

    private func set(_ name: String, to value: [UInt8], _ process: Int) -> [[UInt8]] {
        [Array("SET".utf8), key(name, process), value, Array("EX".utf8), Array("60".utf8)]
    }

    /// Whether it certainly is.
    private func isForeign(_ reply: RESP.Reply, _ process: Int) -> Bool { owner(of: reply).map { $0 != process } ?? false }

    private func owner(of reply: RESP.Reply) -> Int? {
        switch reply {
        case .bulk(let text?): Int64(decimal: text.prefix { $0 != UInt8(ascii: ":") }).map { Int($0) }
        case .integer(let number): Int(number / Self.counterStep)
        default: nil
        }
    }
}
