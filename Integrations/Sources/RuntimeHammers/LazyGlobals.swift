// swift-format-ignore-file: a table of globals, of which each can be used for the first time only once in a process.

/// How many of them a parent may use; the others are for the children.
package let lazyGlobalsOfParents = 248

let lazy000 = slowly(0), lazy001 = slowly(1), lazy002 = slowly(2), lazy003 = slowly(3)
let lazy004 = slowly(4), lazy005 = slowly(5), lazy006 = slowly(6), lazy007 = slowly(7)
let lazy008 = slowly(8), lazy009 = slowly(9), lazy010 = slowly(10), lazy011 = slowly(11)
let lazy012 = slowly(12), lazy013 = slowly(13), lazy014 = slowly(14), lazy015 = slowly(15)
let lazy016 = slowly(16), lazy017 = slowly(17), lazy018 = slowly(18), lazy019 = slowly(19)
let lazy020 = slowly(20), lazy021 = slowly(21), lazy022 = slowly(22), lazy023 = slowly(23)
let lazy024 = slowly(24), lazy025 = slowly(25), lazy026 = slowly(26), lazy027 = slowly(27)
let lazy028 = slowly(28), lazy029 = slowly(29), lazy030 = slowly(30), lazy031 = slowly(31)
let lazy032 = slowly(32), lazy033 = slowly(33), lazy034 = slowly(34), lazy035 = slowly(35)
let lazy036 = slowly(36), lazy037 = slowly(37), lazy038 = slowly(38), lazy039 = slowly(39)
let lazy040 = slowly(40), lazy041 = slowly(41), lazy042 = slowly(42), lazy043 = slowly(43)
let lazy044 = slowly(44), lazy045 = slowly(45), lazy046 = slowly(46), lazy047 = slowly(47)
let lazy048 = slowly(48), lazy049 = slowly(49), lazy050 = slowly(50), lazy051 = slowly(51)
let lazy052 = slowly(52), lazy053 = slowly(53), lazy054 = slowly(54), lazy055 = slowly(55)
let lazy056 = slowly(56), lazy057 = slowly(57), lazy058 = slowly(58), lazy059 = slowly(59)
let lazy060 = slowly(60), lazy061 = slowly(61), lazy062 = slowly(62), lazy063 = slowly(63)
let lazy064 = slowly(64), lazy065 = slowly(65), lazy066 = slowly(66), lazy067 = slowly(67)
let lazy068 = slowly(68), lazy069 = slowly(69), lazy070 = slowly(70), lazy071 = slowly(71)
let lazy072 = slowly(72), lazy073 = slowly(73), lazy074 = slowly(74), lazy075 = slowly(75)
let lazy076 = slowly(76), lazy077 = slowly(77), lazy078 = slowly(78), lazy079 = slowly(79)
let lazy080 = slowly(80), lazy081 = slowly(81), lazy082 = slowly(82), lazy083 = slowly(83)
let lazy084 = slowly(84), lazy085 = slowly(85), lazy086 = slowly(86), lazy087 = slowly(87)
let lazy088 = slowly(88), lazy089 = slowly(89), lazy090 = slowly(90), lazy091 = slowly(91)
let lazy092 = slowly(92), lazy093 = slowly(93), lazy094 = slowly(94), lazy095 = slowly(95)
let lazy096 = slowly(96), lazy097 = slowly(97), lazy098 = slowly(98), lazy099 = slowly(99)
let lazy100 = slowly(100), lazy101 = slowly(101), lazy102 = slowly(102), lazy103 = slowly(103)
let lazy104 = slowly(104), lazy105 = slowly(105), lazy106 = slowly(106), lazy107 = slowly(107)
let lazy108 = slowly(108), lazy109 = slowly(109), lazy110 = slowly(110), lazy111 = slowly(111)
let lazy112 = slowly(112), lazy113 = slowly(113), lazy114 = slowly(114), lazy115 = slowly(115)
let lazy116 = slowly(116), lazy117 = slowly(117), lazy118 = slowly(118), lazy119 = slowly(119)
let lazy120 = slowly(120), lazy121 = slowly(121), lazy122 = slowly(122), lazy123 = slowly(123)
let lazy124 = slowly(124), lazy125 = slowly(125), lazy126 = slowly(126), lazy127 = slowly(127)
let lazy128 = slowly(128), lazy129 = slowly(129), lazy130 = slowly(130), lazy131 = slowly(131)
let lazy132 = slowly(132), lazy133 = slowly(133), lazy134 = slowly(134), lazy135 = slowly(135)
let lazy136 = slowly(136), lazy137 = slowly(137), lazy138 = slowly(138), lazy139 = slowly(139)
let lazy140 = slowly(140), lazy141 = slowly(141), lazy142 = slowly(142), lazy143 = slowly(143)
let lazy144 = slowly(144), lazy145 = slowly(145), lazy146 = slowly(146), lazy147 = slowly(147)
let lazy148 = slowly(148), lazy149 = slowly(149), lazy150 = slowly(150), lazy151 = slowly(151)
let lazy152 = slowly(152), lazy153 = slowly(153), lazy154 = slowly(154), lazy155 = slowly(155)
let lazy156 = slowly(156), lazy157 = slowly(157), lazy158 = slowly(158), lazy159 = slowly(159)
let lazy160 = slowly(160), lazy161 = slowly(161), lazy162 = slowly(162), lazy163 = slowly(163)
let lazy164 = slowly(164), lazy165 = slowly(165), lazy166 = slowly(166), lazy167 = slowly(167)
let lazy168 = slowly(168), lazy169 = slowly(169), lazy170 = slowly(170), lazy171 = slowly(171)
let lazy172 = slowly(172), lazy173 = slowly(173), lazy174 = slowly(174), lazy175 = slowly(175)
let lazy176 = slowly(176), lazy177 = slowly(177), lazy178 = slowly(178), lazy179 = slowly(179)
let lazy180 = slowly(180), lazy181 = slowly(181), lazy182 = slowly(182), lazy183 = slowly(183)
let lazy184 = slowly(184), lazy185 = slowly(185), lazy186 = slowly(186), lazy187 = slowly(187)
let lazy188 = slowly(188), lazy189 = slowly(189), lazy190 = slowly(190), lazy191 = slowly(191)
let lazy192 = slowly(192), lazy193 = slowly(193), lazy194 = slowly(194), lazy195 = slowly(195)
let lazy196 = slowly(196), lazy197 = slowly(197), lazy198 = slowly(198), lazy199 = slowly(199)
let lazy200 = slowly(200), lazy201 = slowly(201), lazy202 = slowly(202), lazy203 = slowly(203)
let lazy204 = slowly(204), lazy205 = slowly(205), lazy206 = slowly(206), lazy207 = slowly(207)
let lazy208 = slowly(208), lazy209 = slowly(209), lazy210 = slowly(210), lazy211 = slowly(211)
let lazy212 = slowly(212), lazy213 = slowly(213), lazy214 = slowly(214), lazy215 = slowly(215)
let lazy216 = slowly(216), lazy217 = slowly(217), lazy218 = slowly(218), lazy219 = slowly(219)
let lazy220 = slowly(220), lazy221 = slowly(221), lazy222 = slowly(222), lazy223 = slowly(223)
let lazy224 = slowly(224), lazy225 = slowly(225), lazy226 = slowly(226), lazy227 = slowly(227)
let lazy228 = slowly(228), lazy229 = slowly(229), lazy230 = slowly(230), lazy231 = slowly(231)
let lazy232 = slowly(232), lazy233 = slowly(233), lazy234 = slowly(234), lazy235 = slowly(235)
let lazy236 = slowly(236), lazy237 = slowly(237), lazy238 = slowly(238), lazy239 = slowly(239)
let lazy240 = slowly(240), lazy241 = slowly(241), lazy242 = slowly(242), lazy243 = slowly(243)
let lazy244 = slowly(244), lazy245 = slowly(245), lazy246 = slowly(246), lazy247 = slowly(247)
let lazy248 = slowly(248), lazy249 = slowly(249), lazy250 = slowly(250), lazy251 = slowly(251)
let lazy252 = slowly(252), lazy253 = slowly(253), lazy254 = slowly(254), lazy255 = slowly(255)

let lazyGlobals: [@Sendable () -> Int] = [
    { lazy000 }, { lazy001 }, { lazy002 }, { lazy003 }, { lazy004 }, { lazy005 }, { lazy006 }, { lazy007 },
    { lazy008 }, { lazy009 }, { lazy010 }, { lazy011 }, { lazy012 }, { lazy013 }, { lazy014 }, { lazy015 },
    { lazy016 }, { lazy017 }, { lazy018 }, { lazy019 }, { lazy020 }, { lazy021 }, { lazy022 }, { lazy023 },
    { lazy024 }, { lazy025 }, { lazy026 }, { lazy027 }, { lazy028 }, { lazy029 }, { lazy030 }, { lazy031 },
    { lazy032 }, { lazy033 }, { lazy034 }, { lazy035 }, { lazy036 }, { lazy037 }, { lazy038 }, { lazy039 },
    { lazy040 }, { lazy041 }, { lazy042 }, { lazy043 }, { lazy044 }, { lazy045 }, { lazy046 }, { lazy047 },
    { lazy048 }, { lazy049 }, { lazy050 }, { lazy051 }, { lazy052 }, { lazy053 }, { lazy054 }, { lazy055 },
    { lazy056 }, { lazy057 }, { lazy058 }, { lazy059 }, { lazy060 }, { lazy061 }, { lazy062 }, { lazy063 },
    { lazy064 }, { lazy065 }, { lazy066 }, { lazy067 }, { lazy068 }, { lazy069 }, { lazy070 }, { lazy071 },
    { lazy072 }, { lazy073 }, { lazy074 }, { lazy075 }, { lazy076 }, { lazy077 }, { lazy078 }, { lazy079 },
    { lazy080 }, { lazy081 }, { lazy082 }, { lazy083 }, { lazy084 }, { lazy085 }, { lazy086 }, { lazy087 },
    { lazy088 }, { lazy089 }, { lazy090 }, { lazy091 }, { lazy092 }, { lazy093 }, { lazy094 }, { lazy095 },
    { lazy096 }, { lazy097 }, { lazy098 }, { lazy099 }, { lazy100 }, { lazy101 }, { lazy102 }, { lazy103 },
    { lazy104 }, { lazy105 }, { lazy106 }, { lazy107 }, { lazy108 }, { lazy109 }, { lazy110 }, { lazy111 },
    { lazy112 }, { lazy113 }, { lazy114 }, { lazy115 }, { lazy116 }, { lazy117 }, { lazy118 }, { lazy119 },
    { lazy120 }, { lazy121 }, { lazy122 }, { lazy123 }, { lazy124 }, { lazy125 }, { lazy126 }, { lazy127 },
    { lazy128 }, { lazy129 }, { lazy130 }, { lazy131 }, { lazy132 }, { lazy133 }, { lazy134 }, { lazy135 },
    { lazy136 }, { lazy137 }, { lazy138 }, { lazy139 }, { lazy140 }, { lazy141 }, { lazy142 }, { lazy143 },
    { lazy144 }, { lazy145 }, { lazy146 }, { lazy147 }, { lazy148 }, { lazy149 }, { lazy150 }, { lazy151 },
    { lazy152 }, { lazy153 }, { lazy154 }, { lazy155 }, { lazy156 }, { lazy157 }, { lazy158 }, { lazy159 },
    { lazy160 }, { lazy161 }, { lazy162 }, { lazy163 }, { lazy164 }, { lazy165 }, { lazy166 }, { lazy167 },
    { lazy168 }, { lazy169 }, { lazy170 }, { lazy171 }, { lazy172 }, { lazy173 }, { lazy174 }, { lazy175 },
    { lazy176 }, { lazy177 }, { lazy178 }, { lazy179 }, { lazy180 }, { lazy181 }, { lazy182 }, { lazy183 },
    { lazy184 }, { lazy185 }, { lazy186 }, { lazy187 }, { lazy188 }, { lazy189 }, { lazy190 }, { lazy191 },
    { lazy192 }, { lazy193 }, { lazy194 }, { lazy195 }, { lazy196 }, { lazy197 }, { lazy198 }, { lazy199 },
    { lazy200 }, { lazy201 }, { lazy202 }, { lazy203 }, { lazy204 }, { lazy205 }, { lazy206 }, { lazy207 },
    { lazy208 }, { lazy209 }, { lazy210 }, { lazy211 }, { lazy212 }, { lazy213 }, { lazy214 }, { lazy215 },
    { lazy216 }, { lazy217 }, { lazy218 }, { lazy219 }, { lazy220 }, { lazy221 }, { lazy222 }, { lazy223 },
    { lazy224 }, { lazy225 }, { lazy226 }, { lazy227 }, { lazy228 }, { lazy229 }, { lazy230 }, { lazy231 },
    { lazy232 }, { lazy233 }, { lazy234 }, { lazy235 }, { lazy236 }, { lazy237 }, { lazy238 }, { lazy239 },
    { lazy240 }, { lazy241 }, { lazy242 }, { lazy243 }, { lazy244 }, { lazy245 }, { lazy246 }, { lazy247 },
    { lazy248 }, { lazy249 }, { lazy250 }, { lazy251 }, { lazy252 }, { lazy253 }, { lazy254 }, { lazy255 },
]
