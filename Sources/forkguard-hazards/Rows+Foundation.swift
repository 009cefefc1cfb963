import Foundation

/// Foundation, regular expressions and strings.
extension Rows {
    private struct Person: Codable, Equatable {
        var name: String
        var age: Int
        var friends: [String: Double]
        var born: Date
    }

    static let foundation: [Row] = [
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
        },
        Row.operation("date-formatter", "DateFormatter.") { number in
            let formatter = DateFormatter()
            formatter.locale = Locale(identifier: ["en_US_POSIX", "de_DE", "ja_JP", "fr_FR"][Int(number % 4)])
            formatter.timeZone = TimeZone(secondsFromGMT: Int(number % 12) * 3600)
            formatter.dateFormat = "yyyy-MM-dd HH:mm:ss"
            let date = Date(timeIntervalSince1970: 1_000_000_000)
            return formatter.date(from: formatter.string(from: date)) == date
        },
        Row.operation("number-formatter", "NumberFormatter.") { number in
            let formatter = NumberFormatter()
            formatter.locale = Locale(identifier: ["en_US", "de_DE", "ja_JP", "fr_FR"][Int(number % 4)])
            formatter.numberStyle = .decimal
            guard let text = formatter.string(from: NSNumber(value: 1234.5)) else { return false }
            return formatter.number(from: text)?.doubleValue == 1234.5
        },
        Row.operation("notification-center", "NotificationCenter.default: an observer, a notification.") { number in
            let name = Notification.Name("hazard \(number)")
            let heard = Flag()
            let observer = NotificationCenter.default.addObserver(forName: name, object: nil, queue: nil) { _ in heard.add() }
            NotificationCenter.default.post(name: name, object: nil)
            NotificationCenter.default.removeObserver(observer)
            return heard.value == 1
        },
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
        },
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
}
