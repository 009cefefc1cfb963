#if LIBPQ
    import CLibPQ
    import Foundation
    import Glibc

    /// The unguarded twin of `PostgresClient`: a connection of libpq's, which says goodbye when it goes away.
    final class PlainPostgres: @unchecked Sendable {
        // @unchecked: nothing changes after `init`; who talks at once gets each other's answers, and the tests that show that want it so.
        private let connection: OpaquePointer

        struct Failure: Error, CustomStringConvertible { let description: String }

        init(port: UInt16) throws {
            connection = PQconnectdb("hostaddr=127.0.0.1 port=\(port) user=forkguard dbname=forkguard sslmode=disable gssencmode=disable")
            if PQstatus(connection) != CONNECTION_OK { throw Failure(description: String(cString: PQerrorMessage(connection))) }
        }

        deinit { finish() }

        func finish() { PQfinish(connection) }

        /// The next value that comes, whoever it is for.
        func echo(_ word: String) throws -> String? {
            let sent = word.withCString { word in
                withUnsafePointer(to: UnsafePointer<CChar>?.some(word)) {
                    PQsendQueryParams(connection, "SELECT $1::text", 1, nil, $0, nil, nil, 0)
                }
            }
            if sent == 0 { throw failure() }
            var value: String?
            while true {
                while PQisBusy(connection) == 1 {
                    var wanted = pollfd(fd: PQsocket(connection), events: Int16(POLLIN), revents: 0)
                    if poll(&wanted, 1, 1000) == 0 { throw Failure(description: "no answer in a second") }
                    if PQconsumeInput(connection) == 0 { throw failure() }
                }
                guard let result = PQgetResult(connection) else { break }
                defer { PQclear(result) }
                if PQresultStatus(result) != PGRES_TUPLES_OK { throw failure() }
                value = String(cString: PQgetvalue(result, 0, 0))
            }
            return value
        }

        private func failure() -> Failure {
            Failure(description: String(cString: PQerrorMessage(connection)).replacingOccurrences(of: "\n", with: " "))
        }
    }
#endif
