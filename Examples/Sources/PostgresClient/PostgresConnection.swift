import CLibPQ
import ForkGuard
import Glibc
import Wire

/// A connection of libpq's, for one thread at a time. Nothing waits without a deadline.
public final class PostgresConnection: @unchecked Sendable {
    // @unchecked: who has leased it from the pool uses it alone.
    private var connection: OpaquePointer?
    /// Only the token stands for libpq's socket, so that a child has a tombstone instead, and no call of libpq's is made there.
    private let descriptor: ForkDescriptor
    private let timeout: Duration
    private let largestResult: Int

    init(to server: ServerAddress, user: String, database: String, password: String, timeout: Duration, largestResult: Int) throws {
        self.timeout = timeout
        self.largestResult = largestResult
        let settings = [
            ("hostaddr", server.numericHost), ("port", String(server.port)), ("user", user), ("dbname", database), ("password", password),
            // What would look into the home directory, ask somebody else, or connect a second time.
            ("passfile", "/nonexistent"), ("sslmode", "disable"), ("gssencmode", "disable"),
        ]
        var made: OpaquePointer?
        do {
            descriptor = try ForkDescriptor(name: "PostgreSQL connection") {
                made = withCStrings(settings.map(\.0)) { names in
                    withCStrings(settings.map(\.1)) { PQconnectStartParams(names, $0, 0) }
                }
                guard PQstatus(made) != CONNECTION_BAD, PQsocket(made) >= 0 else { throw PostgresError.connection(words(of: made)) }
                return PQsocket(made)
            }
        } catch {
            PQfinish(made)
            throw error
        }
        connection = made
        PQsetNoticeReceiver(made, { _, _ in }, nil)  // else it writes to standard error
        do {
            try finishConnecting(Deadline(in: timeout), "connecting to PostgreSQL at \(server.host):\(server.port)")
        } catch {
            close()
            throw error
        }
        PQsetnonblocking(connection, 1)
    }

    deinit { close() }

    /// Says goodbye and closes. In a child, of an inherited one, only the tombstone goes; libpq's memory stays, a copy that nobody writes to.
    func close() {
        ForkGuard.withForkPrevented {
            do {
                _ = try descriptor.release()
            } catch ForkError.closed {
                // libpq has closed it.
            } catch {
                return _ = try? descriptor.close()
            }
            PQfinish(connection)
            connection = nil
        }
    }

    /// Whether it is in no transaction, and nothing has come that nobody asked for: the server's farewell, most likely.
    var isIdle: Bool {
        guard PQstatus(connection) == CONNECTION_OK, PQtransactionStatus(connection) == PQTRANS_IDLE else { return false }
        var byte: UInt8 = 0
        let isQuiet = try? descriptor.withNumber { recv($0, &byte, 1, Int32(MSG_PEEK)) < 0 && (errno == EAGAIN || errno == EINTR) }
        return isQuiet ?? false
    }

    /// Runs one statement, by the time-out of the client.
    @discardableResult
    public func query(_ statement: String, _ parameters: [String?] = []) throws -> PostgresRows {
        try query(statement, parameters, Deadline(in: timeout))
    }

    func query(_ statement: String, _ parameters: [String?], _ deadline: Deadline) throws -> PostgresRows {
        try check {
            let sent = withCStrings(parameters) {
                PQsendQueryParams(connection, statement, Int32(parameters.count), nil, $0, nil, nil, 0)
            }
            return sent == 1 && PQsetSingleRowMode(connection) == 1
        }
        try flush(deadline)
        var rows = PostgresRows()
        var size = 0
        var refusal: PostgresError?
        while let result = try nextResult(deadline) {
            defer { PQclear(result) }
            switch PQresultStatus(result) {
            case PGRES_SINGLE_TUPLE:
                rows.rows.append((0..<PQnfields(result)).map { value(of: result, $0, &size) })
                if size > largestResult { throw WireError.tooLarge(limit: largestResult) }
            case PGRES_TUPLES_OK, PGRES_COMMAND_OK: rows.tag = String(cString: PQcmdStatus(result))
            case PGRES_EMPTY_QUERY: break
            case PGRES_FATAL_ERROR: refusal = try refusalOrLoss(result)
            case let status: throw PostgresError.unsupported(String(cString: PQresStatus(status)))
            }
        }
        if let refusal { throw refusal }
        return rows
    }

    // ---- how ----

    /// Calls libpq, which never waits here. It closes its socket when it finds the connection broken: no fork may come between that and the end of the
    /// token, whose number may be somebody else's by then. It also takes locks of its own and of libc's when it connects.
    private func step<Result>(_ call: () -> Result) throws -> Result {
        try ForkGuard.withForkPrevented {
            let result = try descriptor.withNumber { _ in call() }
            if PQsocket(connection) < 0 { _ = try? descriptor.release() }
            return result
        }
    }

    /// The same for calls that say whether they succeeded.
    private func check(_ call: () -> Bool) throws {
        if try !step(call) { throw PostgresError.connection(words(of: connection)) }
    }

    private func wait(for events: Int32, _ what: String, _ deadline: Deadline) throws {
        try descriptor.withNumber { try deadline.wait(for: events, on: $0, what) }
    }

    private func finishConnecting(_ deadline: Deadline, _ what: String) throws {
        var next = PGRES_POLLING_WRITING
        while next != PGRES_POLLING_OK {
            try wait(for: next == PGRES_POLLING_READING ? POLLIN : POLLOUT, what, deadline)
            try check {
                next = PQconnectPoll(connection)
                return next != PGRES_POLLING_FAILED
            }
        }
    }

    private func flush(_ deadline: Deadline) throws {
        var left: Int32 = 0
        while true {
            try check {
                left = PQflush(connection)
                return left >= 0
            }
            if left == 0 { return }
            // The server may want to be rid of something before it takes more.
            try wait(for: POLLIN | POLLOUT, "sending a statement", deadline)
            try check { PQconsumeInput(connection) == 1 }
        }
    }

    /// `nil` after the last.
    private func nextResult(_ deadline: Deadline) throws -> OpaquePointer? {
        while try step({ PQisBusy(connection) == 1 }) {
            try wait(for: POLLIN, "a result", deadline)
            try check { PQconsumeInput(connection) == 1 }
        }
        return PQgetResult(connection)
    }

    private func value(of result: OpaquePointer, _ column: Int32, _ size: inout Int) -> String? {
        if PQgetisnull(result, 0, column) == 1 { return nil }
        let length = Int(PQgetlength(result, 0, column))
        size += length
        return String(decoding: UnsafeRawBufferPointer(start: PQgetvalue(result, 0, column), count: length), as: UTF8.self)
    }

    /// Without a state it is libpq that says so: the connection was lost.
    private func refusalOrLoss(_ result: OpaquePointer) throws -> PostgresError {
        let field = { (code: Character) in PQresultErrorField(result, Int32(code.asciiValue!)).map { String(cString: $0) } }
        guard let sqlState = field("C") else { throw PostgresError.connection(trimmed(PQresultErrorMessage(result))) }
        return .server(sqlState: sqlState, message: field("M") ?? "")
    }
}

private func words(of connection: OpaquePointer?) -> String { trimmed(PQerrorMessage(connection)) }

private func trimmed(_ message: UnsafePointer<CChar>) -> String {
    let message = String(cString: message)
    return message.hasSuffix("\n") ? String(message.dropLast()) : message
}

/// The strings, as C wants them, with a NULL at the end.
private func withCStrings<Result>(_ strings: [String?], _ body: (UnsafePointer<UnsafePointer<CChar>?>) -> Result) -> Result {
    let copies = strings.map { $0.flatMap { UnsafePointer(strdup($0)) } } + [nil]
    defer { for copy in copies { free(UnsafeMutablePointer(mutating: copy)) } }
    return copies.withUnsafeBufferPointer { body($0.baseAddress!) }
}
