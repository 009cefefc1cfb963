import Foundation

#if canImport(FoundationNetworking)
    import FoundationNetworking
#endif

/// Foundation, regular expressions and strings.
extension Rows {
    private struct Person: Codable, Equatable {
        var name: String
        var age: Int
        var friends: [String: Double]
        var born: Date
    }

    static let foundation: [Row] = values + working

    private static let values: [Row] = [
        Row.operation("json", "Encoding and decoding JSON.") { number in
            let person = Person(
                name: "Ada \(number)", age: Int(number & 0xffff), friends: ["Charles": 1.5], born: Date(timeIntervalSince1970: 1000))
            guard let data = try? JSONEncoder().encode(person), let read = try? JSONDecoder().decode(Person.self, from: data),
                let object = try? JSONSerialization.jsonObject(with: data) as? [String: Any]
            else { return false }
            return read == person && object["name"] as? String == person.name
        },
        Row.operation("date", "Dates, written and read.") { number in
            let date = Date(timeIntervalSince1970: Double(number % 1000) * 86_400)
            let text = date.formatted(.iso8601)
            return Date().timeIntervalSince1970 > 1e9 && (try? Date(text, strategy: .iso8601)) == date && !date.description.isEmpty
        },
        Row.operation("calendar", "Calendars and time zones.") { number in
            let kinds: [Calendar.Identifier] = [.gregorian, .iso8601, .buddhist, .hebrew, .japanese, .persian]
            let zones = ["Europe/Berlin", "America/New_York", "Asia/Tokyo", "Australia/Sydney", "UTC"]
            var calendar = Calendar(identifier: kinds[Int(number % UInt64(kinds.count))])
            calendar.timeZone = TimeZone(identifier: zones[Int(number % UInt64(zones.count))]) ?? TimeZone(secondsFromGMT: 3600)!
            let date = Date(timeIntervalSince1970: 1_000_000_000)
            guard let next = calendar.date(byAdding: .day, value: 1, to: date) else { return false }
            return calendar.dateComponents([.day], from: date, to: next).day == 1
        }.refusing(.whenBusy),
        Row.operation("date-formatter", "DateFormatter.") { number in
            let formatter = DateFormatter()
            formatter.locale = Locale(identifier: ["en_US_POSIX", "de_DE", "ja_JP", "fr_FR"][Int(number % 4)])
            formatter.timeZone = TimeZone(secondsFromGMT: Int(number % 12) * 3600)
            formatter.dateFormat = "yyyy-MM-dd HH:mm:ss"
            let date = Date(timeIntervalSince1970: 1_000_000_000)
            return formatter.date(from: formatter.string(from: date)) == date
        }.refusing(.whenBusy),
        Row.operation("number-formatter", "NumberFormatter.") { number in
            let formatter = NumberFormatter()
            formatter.locale = Locale(identifier: ["en_US", "de_DE", "ja_JP", "fr_FR"][Int(number % 4)])
            formatter.numberStyle = .decimal
            guard let text = formatter.string(from: NSNumber(value: 1234.5)) else { return false }
            return formatter.number(from: text)?.doubleValue == 1234.5
        }.refusing(.whenBusy),
        Row.operation("notification-center", "NotificationCenter.default: an observer, a notification.") { number in
            let name = Notification.Name("hazard \(number)")
            let heard = Flag()
            let observer = NotificationCenter.default.addObserver(forName: name, object: nil, queue: nil) { _ in heard.add() }
            NotificationCenter.default.post(name: name, object: nil)
            NotificationCenter.default.removeObserver(observer)
            return heard.value == 1
        }.refusing(.whenBusy),
        Row.operation("user-defaults", "UserDefaults.standard.") { number in
            let key = "hazard \(number % 64)"
            UserDefaults.standard.set(42, forKey: key)
            return UserDefaults.standard.integer(forKey: key) == 42
        },
        Row.operation("file-manager", "FileManager: a file made, looked at, removed.") { number in
            let path = NSTemporaryDirectory() + "/hazard-\(getpid())-\(number)"
            guard FileManager.default.createFile(atPath: path, contents: Data("text".utf8)) else { return false }
            defer { unlink(path) }
            let size = try? FileManager.default.attributesOfItem(atPath: path)[.size] as? Int
            let isRead = FileManager.default.contents(atPath: path) == Data("text".utf8)
            return size == 4 && isRead && (try? FileManager.default.removeItem(atPath: path)) != nil
        },
        Row.operation("process-info", "ProcessInfo.") { _ in
            let information = ProcessInfo.processInfo
            return information.processorCount > 0 && information.environment["HOME"] != nil && information.arguments.count > 1
                && information.processIdentifier == getpid() && !information.operatingSystemVersionString.isEmpty
        },
        Row.operation("bundle", "Bundle.main.") { number in
            Bundle.main.bundlePath.hasPrefix("/") && Bundle.main.url(forResource: "nothing \(number)", withExtension: "txt") == nil
                && Bundle.main.executablePath != nil
        }.refusing(.whenBusy),
        Row.operation("thread", "A Thread of Foundation's, made and waited for.") { number in
            let done = Flag()
            let thread = Thread { done.set(Int(truncatingIfNeeded: number)) }
            thread.name = "hazard"
            thread.start()
            done.wait()
            return done.value == Int(truncatingIfNeeded: number)
        },
        Row.operation("regex", "Regular expressions, Swift's and Foundation's.") { number in
            let text = "order \(number) of 2024-05-06"
            guard let regex = try? Regex("order ([0-9]+) of \\d{4}"), let match = text.firstMatch(of: regex),
                let other = try? NSRegularExpression(pattern: "order \(number % 50)|[0-9]+ of")
            else { return false }
            return match.output[1].substring.map(String.init) == "\(number)"
                && other.firstMatch(in: text, range: NSRange(text.startIndex..., in: text)) != nil
        },
        Row.operation("string-normalisation", "Comparing, folding and normalising strings.") { number in
            let composed = "caf\u{E9} \(number)"
            let decomposed = "cafe\u{301} \(number)"
            return composed == decomposed && composed.hashValue == decomposed.hashValue && composed.uppercased() == decomposed.uppercased()
                && decomposed.precomposedStringWithCanonicalMapping.unicodeScalars.count == composed.unicodeScalars.count
                && composed.localizedCaseInsensitiveCompare(decomposed) == .orderedSame
        },
    ]

    /// What hands work to other threads.
    private static let working: [Row] = [
        Row.aging("operation-queue", "An OperationQueue, with an operation that waits for the others.") { number in
            let queue = OperationQueue()
            let count = Flag()
            let latch = Latch<Int>()
            let last = BlockOperation { latch.give(number + count.value) }
            for _ in 0..<3 {
                let operation = BlockOperation { count.add() }
                last.addDependency(operation)
                queue.addOperation(operation)
            }
            queue.addOperation(last)
            queue.waitUntilAllOperationsAreFinished()
            return latch.wait() == number + 3
        },
        Row.aging("operation-queue-main", "OperationQueue.main, whose queue the child serves itself.", drainsMain: true) {
            Hazard(
                hammers: 2,
                hammer: { hammer, number in
                    hammer.inside {
                        let latch = Latch<UInt64>()
                        let operation = BlockOperation { latch.give(number) }
                        OperationQueue.main.addOperation(operation)
                        Row.expect(latch.wait() == number, "operation-queue-main")
                        // It has said its number before the queue has let go of it.
                        while OperationQueue.main.operations.contains(operation) { sched_yield() }
                    }
                },
                check: { _ in
                    let count = Flag()
                    for _ in 0..<3 { OperationQueue.main.addOperation { count.add() } }
                    OperationQueue.main.addOperation { Subject.end(count.value == 3) }
                    dispatchMain()
                })
        }.refusing(.whenBusy),
        Row.aging("timer-run-loop", "A Timer on a thread's RunLoop.") { _ in
            let fired = Flag()
            let timer = Timer(timeInterval: 0.001, repeats: false) { _ in fired.add() }
            RunLoop.current.add(timer, forMode: .default)
            // Long enough that no parent is starved for so long: a child is given less.
            let limit = Date(timeIntervalSinceNow: 20)
            // Ends with the timer, where there is nothing else to wait for; on the main thread with the time that is given.
            while fired.value == 0, Date() < limit { _ = RunLoop.current.run(mode: .default, before: Date(timeIntervalSinceNow: 0.02)) }
            return fired.value == 1
        },
        Row.aging("process", "Processes of Foundation's: one that ends, one that is read.") { number in
            let status = number % 100 + 1
            let end = run("/bin/sh", ["-c", "exit \(status)"])
            let echo = run("/bin/echo", ["\(number)"])
            return end?.status == Int32(status) && echo?.status == 0 && echo?.output == "\(number)\n"
        }.refusing(.whenUsed),
        Row.aging("file-handle", "A FileHandle that is read when there is something.") { number in
            let pipe = Pipe()
            let latch = Latch<Data>()
            pipe.fileHandleForReading.readabilityHandler = { handle in
                handle.readabilityHandler = nil
                latch.give(handle.availableData)
            }
            let data = Data("\(number)".utf8)
            try? pipe.fileHandleForWriting.write(contentsOf: data)
            return latch.wait() == data
        },
        urlSession("url-session", "A URLSession of one's own that asks a server on this machine.") {
            let session = URLSession(configuration: .ephemeral)
            return (session, { session.finishTasksAndInvalidate() })
        },
        urlSession("url-session-shared", "URLSession.shared, which the parent has used.") { (URLSession.shared, {}) }.refusing(.whenUsed),
    ]

    /// How it ended, and what it wrote.
    private static func run(_ path: String, _ arguments: [String]) -> (status: Int32, output: String)? {
        let process = Process()
        let output = Pipe()
        process.executableURL = URL(fileURLWithPath: path)
        process.arguments = arguments
        process.standardOutput = output
        guard (try? process.run()) != nil else { return nil }
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return (process.terminationStatus, text)
    }

    /// A row that asks a server in the parent for a number by a session, and then ends that.
    private static func urlSession(
        _ name: String, _ about: String, session: @escaping @Sendable () -> (URLSession, end: () -> Void)
    ) -> Row {
        Row.aging(name, about) {
            guard let server = NumberServer() else { fatalError("no server") }
            let asks: @Sendable (UInt64) -> Bool = { number in
                let (session, end) = session()
                defer { end() }
                let answer = Latch<String?>()
                let url = URL(string: "http://127.0.0.1:\(server.port)/\(number)")!
                session.dataTask(with: url) { data, _, _ in answer.give(data.map { String(decoding: $0, as: UTF8.self) }) }.resume()
                return answer.wait() == "\(number)"
            }
            Row.expect(asks(2), name)
            return Hazard(
                hammers: 2,
                hammer: { hammer, number in hammer.inside { Row.expect(asks(number), name) } },
                check: { index in asks(1 << 40 + UInt64(index)) })
        }
    }
}
