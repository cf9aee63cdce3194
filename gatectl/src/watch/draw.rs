//! Draws the view-model: a pure function of it, of the time and of the size of the screen.

use protocol::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph};

use super::app::{App, Pane, PaneRows};
use crate::args::UpColor;
use crate::table::{Cell, Column, Tone};

/// Smallest screen that shows all panes; a smaller one shows the focused pane alone.
const ALL_PANES: (u16, u16) = (80, 24);
/// From this width on, trading state stands beside the market instead of below it.
const WIDE: u16 = 150;

const HELP: &[(&str, &str)] = &[
    ("q  Ctrl-C", "quit"),
    ("Esc", "close this, or the enlarged pane, or quit"),
    ("Tab  Left  Right", "move to another pane"),
    ("Up  Down  PgUp  PgDn", "scroll the pane"),
    ("Home  End", "to its beginning or end"),
    ("z  Enter", "enlarge the pane, and back"),
    ("g", "next gateway, or all"),
    ("p  Space", "pause, and go on"),
    ("?", "this help"),
];

/// How meanings look.
#[derive(Debug, Clone, Copy)]
pub struct Theme {
    colored: bool,
    up: Color,
    down: Color,
}

impl Theme {
    /// Colours or none, and which of the two rising prices take.
    #[must_use]
    pub fn new(colored: bool, up: UpColor) -> Self {
        let (up, down) = match up {
            UpColor::Green => (Color::Green, Color::Red),
            UpColor::Red => (Color::Red, Color::Green),
        };
        Theme { colored, up, down }
    }

    fn style(self, tone: Tone) -> Style {
        // Without colours the signs, the words and these attributes still tell.
        match tone {
            Tone::Plain => Style::new(),
            Tone::Faint => Style::new().add_modifier(Modifier::DIM),
            Tone::Bad if !self.colored => Style::new().add_modifier(Modifier::BOLD),
            _ if !self.colored => Style::new(),
            Tone::Up => Style::new().fg(self.up),
            Tone::Down => Style::new().fg(self.down),
            Tone::Good => Style::new().fg(Color::Green),
            Tone::Bad => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
            Tone::Warn => Style::new().fg(Color::Yellow),
        }
    }

    fn alarm(self) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        if self.colored { style.fg(Color::White).bg(Color::Red) } else { style.add_modifier(Modifier::REVERSED) }
    }

    fn bar(self) -> Style {
        if self.colored {
            Style::new().fg(Color::Black).bg(Color::Gray)
        } else {
            Style::new().add_modifier(Modifier::REVERSED)
        }
    }
}

/// Draws everything. Answers how many rows each pane had room for: [`App::drawn`] wants to know.
pub fn draw(frame: &mut Frame, app: &App, now: Timestamp, theme: Theme) -> [usize; Pane::ALL.len()] {
    let area = frame.area();
    let mut visible = [1; Pane::ALL.len()];
    if area.height == 0 || area.width == 0 {
        return visible;
    }
    let [top, middle, bottom] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(u16::from(area.height > 2))])
            .areas(area);
    frame.render_widget(top_line(app, now, theme, top.width), top);
    let everything = !app.zoomed() && area.width >= ALL_PANES.0 && area.height >= ALL_PANES.1;
    let placed = if everything { places(middle, app.gateway_count()) } else { vec![(app.focus(), middle)] };
    for (pane, place) in placed {
        visible[pane as usize] = draw_pane(frame, app, pane, place, now, theme, everything);
    }
    frame.render_widget(bottom_line(app, everything), bottom);
    if app.help() {
        draw_help(frame, middle);
    }
    visible
}

/// Where the panes go. The market gets what is left over.
fn places(area: Rect, gateways: usize) -> Vec<(Pane, Rect)> {
    let gateway_rows = u16::try_from(gateways.clamp(1, 4)).unwrap_or(4) + 2;
    let spare = area.height.saturating_sub(ALL_PANES.1 - 2);
    if area.width >= WIDE {
        let log = 4 + spare / 8;
        let [top, middle, log] =
            Layout::vertical([Constraint::Length(gateway_rows), Constraint::Min(6), Constraint::Length(log)])
                .areas(area);
        let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2).areas(middle);
        let [ticks, orders] = Layout::vertical([Constraint::Fill(3), Constraint::Fill(2)]).areas(left);
        let [positions, trades, accounts] =
            Layout::vertical([Constraint::Fill(2), Constraint::Fill(2), Constraint::Length(4)]).areas(right);
        return vec![
            (Pane::Gateways, top),
            (Pane::Ticks, ticks),
            (Pane::Orders, orders),
            (Pane::Positions, positions),
            (Pane::Trades, trades),
            (Pane::Accounts, accounts),
            (Pane::Log, log),
        ];
    }
    let [gateways, ticks, trading, held, log] = Layout::vertical([
        Constraint::Length(gateway_rows),
        Constraint::Min(4),
        Constraint::Length(5 + spare / 4),
        Constraint::Length(4 + spare / 6),
        Constraint::Length(4 + spare / 6),
    ])
    .areas(area);
    let halves = |area| Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2).areas::<2>(area);
    let ([orders, trades], [positions, accounts]) = (halves(trading), halves(held));
    vec![
        (Pane::Gateways, gateways),
        (Pane::Ticks, ticks),
        (Pane::Orders, orders),
        (Pane::Trades, trades),
        (Pane::Positions, positions),
        (Pane::Accounts, accounts),
        (Pane::Log, log),
    ]
}

fn top_line(app: &App, now: Timestamp, theme: Theme, width: u16) -> Line<'static> {
    let clock = now.format("%H:%M:%S").to_string();
    let (text, style) = match app.alarm(now) {
        Some(alarm) => (format!(" {alarm}"), theme.alarm()),
        None => {
            let gateway = app.selected().map_or_else(|| "all gateways".to_owned(), |name| format!("gateway {name}"));
            (format!(" gatemesh  {}  connected  {gateway}", app.server()), theme.bar())
        }
    };
    let paused = app.paused_since().map(|at| format!("PAUSED at {} ", at.format("%H:%M:%S"))).unwrap_or_default();
    let end = format!(" {paused}{clock} ");
    let room = usize::from(width).saturating_sub(end.len());
    let text = cut(&text, room);
    let gap = room.saturating_sub(Span::raw(&text).width());
    Line::styled(format!("{text}{}{end}", " ".repeat(gap)), style)
}

fn bottom_line(app: &App, everything: bool) -> Line<'static> {
    let small = if everything || app.zoomed() { "" } else { "  (small screen: one pane at a time)" };
    let keys = " q quit  Tab pane  arrows scroll  z enlarge  g gateway  p pause  ? help";
    Line::styled(format!("{keys}{small}"), Style::new().add_modifier(Modifier::DIM))
}

/// Draws a title, a heading and the rows; answers for how many rows there was room.
fn draw_pane(
    frame: &mut Frame,
    app: &App,
    pane: Pane,
    area: Rect,
    now: Timestamp,
    theme: Theme,
    everything: bool,
) -> usize {
    let room = usize::from(area.height.saturating_sub(2));
    let content = app.pane(pane, room, now);
    let focused = app.focus() == pane;
    let more = content.total.saturating_sub(content.rows.len());
    let title = match more {
        0 => format!(" {} ", content.title),
        _ => format!(" {}: {} of {} ", content.title, content.rows.len(), content.total),
    };
    let mut style = Style::new();
    if focused && everything {
        style = style.add_modifier(Modifier::REVERSED);
    }
    let block = Block::new()
        .borders(Borders::TOP)
        .border_style(Style::new().add_modifier(Modifier::DIM))
        .title(Span::styled(title, style.add_modifier(Modifier::BOLD)));
    let inside = block.inner(area);
    frame.render_widget(block, area);
    frame.render_widget(Paragraph::new(lines(&content, usize::from(inside.width), theme)), inside);
    room
}

fn lines(content: &PaneRows, width: usize, theme: Theme) -> Vec<Line<'static>> {
    if content.rows.is_empty() {
        return vec![Line::styled(cut(content.empty, width), Style::new().add_modifier(Modifier::DIM))];
    }
    let shown = fit(content.columns, &content.rows, width);
    let mut lines = Vec::with_capacity(content.rows.len() + 1);
    let heading = shown.iter().map(|&(i, w)| padded(content.columns[i].title(), w, content.columns[i].is_number()));
    let heading = cut(&heading.collect::<Vec<_>>().join(" "), width);
    lines.push(Line::styled(heading, Style::new().add_modifier(Modifier::DIM)));
    for row in &content.rows {
        let mut spans = Vec::with_capacity(shown.len() * 2);
        for (position, &(i, w)) in shown.iter().enumerate() {
            if position > 0 {
                spans.push(Span::raw(" "));
            }
            let text = padded(&cut(row[i].text(), w), w, content.columns[i].is_number());
            spans.push(Span::styled(text, theme.style(row[i].tone())));
        }
        lines.push(Line::from(spans));
    }
    lines
}

/// Which columns fit, and how wide they are: as wide as their values, dropped from the right. The last one that is
/// shown may be cut if it holds text; a number is shown whole or not at all.
fn fit(columns: &[Column], rows: &[Vec<Cell>], width: usize) -> Vec<(usize, usize)> {
    let mut shown = Vec::new();
    let mut used = 0;
    for (i, column) in columns.iter().enumerate() {
        let values =
            rows.iter().filter_map(|row| row.get(i)).map(|cell| Span::raw(cell.text()).width()).max().unwrap_or(0);
        let wanted = values.max(column.width()).max(column.title().len());
        let gap = usize::from(i > 0);
        if used + gap + wanted <= width {
            shown.push((i, wanted));
            used += gap + wanted;
            continue;
        }
        let rest = width.saturating_sub(used + gap);
        if (!column.is_number() && rest >= column.title().len().max(4)) || shown.is_empty() {
            shown.push((i, rest));
        }
        break;
    }
    shown
}

fn padded(text: &str, width: usize, right: bool) -> String {
    let gap = " ".repeat(width.saturating_sub(Span::raw(text).width()));
    if right { format!("{gap}{text}") } else { format!("{text}{gap}") }
}

/// At most `width` columns of a text, with an ellipsis where something is left out.
fn cut(text: &str, width: usize) -> String {
    if Span::raw(text).width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    for c in text.chars() {
        out.push(c);
        if Span::raw(out.as_str()).width() >= width {
            out.pop();
            break;
        }
    }
    if width > 0 {
        out.push('…');
    }
    out
}

fn draw_help(frame: &mut Frame, area: Rect) {
    let height = u16::try_from(HELP.len() + 2).unwrap_or(u16::MAX).min(area.height);
    let width = 64.min(area.width);
    let place = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    let lines: Vec<_> = HELP
        .iter()
        .map(|(keys, what)| Line::from(vec![Span::styled(format!(" {keys:<22}"), Modifier::BOLD), Span::raw(*what)]))
        .collect();
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" Keys ")), place);
}

#[cfg(test)]
mod tests {
    use super::super::app::Update;
    use super::super::app::tests::{after, app, heartbeat, press, start, state};
    use super::*;
    use crossterm::event::KeyCode;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::buffer::Buffer;

    fn render(app: &App, width: u16, height: u16, now: Timestamp, theme: Theme) -> Buffer {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a test screen");
        terminal
            .draw(|frame| {
                draw(frame, app, now, theme);
            })
            .expect("draws");
        terminal.backend().buffer().clone()
    }

    fn screen(app: &App, width: u16, height: u16) -> String {
        text_of(&render(app, width, height, after(1500), Theme::new(true, UpColor::Green)))
    }

    fn text_of(buffer: &Buffer) -> String {
        let area = buffer.area;
        let row = |y| (0..area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..area.height).map(row).collect::<Vec<_>>().join("\n")
    }

    fn color_of(buffer: &Buffer, text: &str) -> Color {
        let all = text_of(buffer);
        let (y, line) = all.lines().enumerate().find(|(_, line)| line.contains(text)).expect("is on the screen");
        let byte = line.find(text).expect("is in the line");
        let x = line[..byte].chars().count();
        buffer[(u16::try_from(x).expect("fits"), u16::try_from(y).expect("fits"))].fg
    }

    #[test]
    fn everything_fits_on_eighty_by_twenty_four() {
        assert_eq!(screen(&app(), 80, 24), include_str!("testdata/80x24.txt").trim_end_matches('\n'));
    }

    #[test]
    fn every_size_is_survived() {
        for (width, height) in
            [(1, 1), (3, 2), (10, 3), (20, 5), (40, 12), (79, 24), (80, 23), (120, 40), (200, 60), (400, 3)]
        {
            for zoomed in [false, true] {
                let mut app = app();
                if zoomed {
                    press(&mut app, KeyCode::Char('z'));
                }
                for _ in Pane::ALL {
                    press(&mut app, KeyCode::Tab);
                    screen(&app, width, height);
                }
                press(&mut app, KeyCode::Char('?'));
                screen(&app, width, height);
            }
        }
    }

    #[test]
    fn a_small_screen_shows_the_focused_pane() {
        let mut app = app();
        let text = screen(&app, 50, 10);
        assert!(text.contains("Ticks") && text.contains("3502.0") && !text.contains("Positions"), "{text}");
        press(&mut app, KeyCode::Tab);
        let text = screen(&app, 50, 10);
        assert!(text.contains("Working orders") && text.contains("NOTTRADED") && !text.contains("3502.0"), "{text}");
    }

    #[test]
    fn a_wide_screen_shows_more_columns() {
        let text = screen(&app(), 200, 50);
        for word in ["OPEN INT", "TRADING DAY", "order-0002", "OPEN PNL", "AVAILABLE", "990,000.00"] {
            assert!(text.contains(word), "{word} is missing\n{text}");
        }
    }

    #[test]
    fn prices_and_profits_are_coloured_as_asked() {
        let (green_up, red_up) = (Theme::new(true, UpColor::Green), Theme::new(true, UpColor::Red));
        let (app, now) = (app(), after(1500));
        assert_eq!(color_of(&render(&app, 100, 30, now, green_up), "3502.0 "), Color::Green);
        assert_eq!(color_of(&render(&app, 100, 30, now, red_up), "3502.0 "), Color::Red);
        assert_eq!(color_of(&render(&app, 100, 30, now, green_up), "-120.00 "), Color::Red);
        assert_eq!(color_of(&render(&app, 100, 30, now, red_up), "READY"), Color::Green, "no matter of prices");
        let plain = render(&app, 100, 30, now, Theme::new(false, UpColor::Green));
        assert!(plain.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    }

    #[test]
    fn a_loss_is_plain_to_see_at_any_size() {
        let mut app = app();
        app.apply(heartbeat("sim2", 8, 0), after(8000));
        let theme = Theme::new(true, UpColor::Green);
        for (width, height) in [(40, 5), (80, 24), (200, 50)] {
            let text = text_of(&render(&app, width, height, after(8100), theme));
            assert!(text.contains("GATEWAY sim1 LOST since"), "{text}");
        }
        app.apply(Update::Connected(false), after(9000));
        let text = text_of(&render(&app, 80, 24, after(12_000), theme));
        assert!(text.starts_with(" CONNECTION LOST since 21:00:09 (3 s)"), "{text}");
    }

    #[test]
    fn an_empty_view_says_what_it_waits_for() {
        let app = App::new("nats://127.0.0.1:4222".into(), None, start());
        let theme = Theme::new(true, UpColor::Green);
        let text = text_of(&render(&app, 80, 24, after(500), theme));
        assert!(text.contains("listening for gateways") && text.contains("no ticks yet"), "{text}");
        let text = text_of(&render(&app, 80, 24, after(5000), theme));
        assert!(text.contains("no gateway is running: waiting for one"), "{text}");
    }

    #[test]
    fn long_lists_say_how_much_is_hidden() {
        let mut app = app();
        app.apply(state("sim1", 300, 0), start());
        let text = screen(&app, 80, 24);
        assert!(text.contains("Working orders: 3 of 301"), "{text}");
    }

    #[test]
    fn pause_and_help_show() {
        let mut app = app();
        press(&mut app, KeyCode::Char('p'));
        press(&mut app, KeyCode::Char('?'));
        let text = screen(&app, 80, 24);
        assert!(text.contains("PAUSED at 21:00:01") && text.contains("next gateway, or all"), "{text}");
    }

    #[test]
    fn texts_are_cut_by_their_width_on_the_screen() {
        assert_eq!(cut("rb2410.SHFE", 11), "rb2410.SHFE");
        assert_eq!(cut("rb2410.SHFE", 6), "rb241…");
        assert_eq!(cut("螺纹钢2410", 6), "螺纹…");
        assert_eq!(cut("abc", 0), "");
    }
}
