import Glibc

/// A plot with logarithmic axes, as SVG that is readable on light and on dark paper.
struct Plot {
    struct Line {
        let name: String
        var points: [(x: Double, y: Double)] = []
    }

    /// Of the file.
    let name: String
    let title: String
    let x: String
    let y: String
    let lines: [Line]

    var svg: String {
        let points = lines.flatMap(\.points)
        let xs = Axis(points.map(\.x), from: 70, to: 500), ys = Axis(points.map(\.y), from: 340, to: 40)
        var parts: [String] = []
        for tick in xs.ticks {
            let at = xs.place(tick)
            parts.append(#"<path class="grid" d="M\#(at) 40V340"/><text x="\#(at)" y="358" text-anchor="middle">\#(label(tick))</text>"#)
        }
        for tick in ys.ticks {
            let at = ys.place(tick)
            parts.append(#"<path class="grid" d="M70 \#(at)H500"/><text x="62" y="\#(at + 4)" text-anchor="end">\#(label(tick))</text>"#)
        }
        var labels = lines.map { ys.place($0.points.last!.y) }
        spread(&labels)
        for (index, line) in lines.enumerated() {
            let places = line.points.map { "\(xs.place($0.x)) \(ys.place($0.y))" }
            parts.append(#"<path class="line s\#(index)" d="M\#(places.joined(separator: "L"))"/>"#)
            parts += line.points.map { #"<circle class="f\#(index)" cx="\#(xs.place($0.x))" cy="\#(ys.place($0.y))" r="3"/>"# }
            parts.append(#"<text class="f\#(index)" x="508" y="\#(labels[index] + 4)">\#(line.name)</text>"#)
        }
        return """
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 400" role="img" aria-label="\(title)">
            <style>
            text { font: 12px sans-serif } .title { font-size: 15px } .line { fill: none; stroke-width: 2 }
            \(colours(paper: "#fff", text: "#333", grid: "#ddd", ["#0a5fc2", "#58a0ea", "#b3400e", "#dd8452", "#888"]))
            @media (prefers-color-scheme: dark) {
            \(colours(paper: "#0d1117", text: "#ccc", grid: "#333", ["#58a6ff", "#a5d1ff", "#ff8552", "#ffc09f", "#999"]))
            }
            </style>
            <rect class="paper" width="720" height="400"/>
            <text class="title" x="70" y="22">\(title)</text>
            \(parts.joined(separator: "\n"))
            <text x="285" y="386" text-anchor="middle">\(x)</text>
            <text transform="translate(16 190) rotate(-90)" text-anchor="middle">\(y)</text>
            </svg>

            """
    }

    // No custom properties: not everything that draws SVG knows them.
    private func colours(paper: String, text: String, grid: String, _ lines: [String]) -> String {
        let ofLines = lines.enumerated().map { ".s\($0) { stroke: \($1) } .f\($0) { fill: \($1) }" }
        return (["text { fill: \(text) } .paper { fill: \(paper) } .grid { stroke: \(grid) }"] + ofLines).joined(separator: "\n")
    }

    /// Moves labels apart that would lie on each other.
    private func spread(_ places: inout [Double]) {
        let order = places.indices.sorted { places[$0] < places[$1] }
        for (lower, upper) in zip(order, order.dropFirst()) { places[upper] = max(places[upper], places[lower] + 15) }
    }

    private func label(_ value: Double) -> String {
        value >= 1_000_000 ? (value / 1_000_000).plain + "M" : value >= 1000 ? (value / 1000).plain + "k" : value.plain
    }
}

/// From the power of ten below the smallest value to the one above the largest.
private struct Axis {
    private let first: Double, last: Double, from: Double, to: Double

    init(_ values: [Double], from: Double, to: Double) {
        first = log10(values.min()!).rounded(.down)
        last = max(first + 1, log10(values.max()!).rounded(.up))
        (self.from, self.to) = (from, to)
    }

    var ticks: [Double] { (Int(first)...Int(last)).map { pow(10, Double($0)) } }

    func place(_ value: Double) -> Double {
        ((from + (log10(value) - first) / (last - first) * (to - from)) * 10).rounded() / 10
    }
}
