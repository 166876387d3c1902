//! Features in words that a visitor reads: names, values, and reasons made of them, in four languages.
//!
//! A table of its own, like the descriptions: the collector computes without it, and only what explains a score
//! carries it.

use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::string::{String, ToString as _};

use crate::definitions::{CATEGORIES, DEFINITIONS, Kind, Labels, NUMBERS};

/// A language that reasons are told in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// English, also for all who ask for another language than these.
    #[default]
    En,
    /// German.
    De,
    /// French.
    Fr,
    /// Spanish.
    Es,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::En, Self::De, Self::Fr, Self::Es];

    /// By a language tag such as `de-AT` (RFC 5646); only its first part counts.
    #[must_use]
    pub fn of(tag: &str) -> Self {
        let first = tag.split(['-', '_']).next().unwrap_or_default();
        [("de", Self::De), ("fr", Self::Fr), ("es", Self::Es)]
            .into_iter()
            .find_map(|(known, language)| first.eq_ignore_ascii_case(known).then_some(language))
            .unwrap_or_default()
    }

    /// Its tag.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        ["en", "de", "fr", "es"][self as usize]
    }
}

type Words = [&'static str; 4];

/// Names by place in [`DEFINITIONS`].
const NAMES: [Words; NUMBERS + CATEGORIES] = [
    ["pages viewed", "angesehene Seiten", "pages vues", "páginas vistas"],
    ["time spent on pages", "aktive Zeit", "temps de consultation", "tiempo activo"],
    ["length of the visit", "Dauer des Besuchs", "durée de la visite", "duración de la visita"],
    ["scrolled down to", "gescrollt bis", "défilement jusqu'à", "desplazamiento hasta"],
    ["clicks", "Klicks", "clics", "clics"],
    ["impatient clicks", "ungeduldige Klicks", "clics d'impatience", "clics de impaciencia"],
    ["clicks without an answer", "Klicks ohne Antwort", "clics sans réponse", "clics sin respuesta"],
    [
        "clicks followed by an error",
        "Klicks mit Folgefehler",
        "clics suivis d'une erreur",
        "clics seguidos de un error",
    ],
    ["forms begun", "begonnene Formulare", "formulaires commencés", "formularios empezados"],
    ["forms sent", "abgeschickte Formulare", "formulaires envoyés", "formularios enviados"],
    ["forms left unsent", "abgebrochene Formulare", "formulaires abandonnés", "formularios abandonados"],
    ["texts copied", "kopierte Texte", "textes copiés", "textos copiados"],
    ["signs of leaving", "Anzeichen fürs Gehen", "signes de départ", "intentos de salida"],
    [
        "links followed to other sites",
        "Links zu anderen Websites",
        "liens vers d'autres sites",
        "enlaces a otros sitios",
    ],
    ["files downloaded", "heruntergeladene Dateien", "fichiers téléchargés", "archivos descargados"],
    ["searches", "Suchen", "recherches", "búsquedas"],
    ["products viewed", "angesehene Produkte", "produits vus", "productos vistos"],
    ["products put into the cart", "Produkte im Warenkorb", "produits mis au panier", "productos en el carrito"],
    ["value put into the cart", "Wert im Warenkorb", "valeur mise au panier", "valor en el carrito"],
    ["value bought", "Wert der Einkäufe", "montant des achats", "importe comprado"],
    ["checkouts begun", "begonnene Bestellungen", "commandes commencées", "pagos iniciados"],
    ["purchases", "Einkäufe", "achats", "compras"],
    ["account pages viewed", "angesehene Kontoseiten", "pages de compte vues", "páginas de cuenta vistas"],
    ["information pages viewed", "angesehene Infoseiten", "pages d'information vues", "páginas de información vistas"],
    ["product pages viewed", "angesehene Produktseiten", "pages de produits vues", "páginas de productos vistas"],
    ["time on account pages", "Zeit auf Kontoseiten", "temps sur les pages de compte", "tiempo en páginas de cuenta"],
    [
        "time on information pages",
        "Zeit auf Infoseiten",
        "temps sur les pages d'information",
        "tiempo en páginas de información",
    ],
    [
        "time on product pages",
        "Zeit auf Produktseiten",
        "temps sur les pages de produits",
        "tiempo en páginas de productos",
    ],
    ["came before", "schon einmal hier", "déjà venu", "ya estuvo aquí"],
    ["visit at the weekend", "Besuch am Wochenende", "visite le week-end", "visita en fin de semana"],
    ["errors met", "aufgetretene Fehler", "erreurs rencontrées", "errores encontrados"],
    ["kinds of pages seen", "Arten von Seiten", "types de pages vus", "tipos de páginas vistos"],
    ["actions on the site", "Aktionen auf der Website", "actions sur le site", "acciones en el sitio"],
    [
        "wait for the main content",
        "Warten auf den Hauptinhalt",
        "attente du contenu principal",
        "espera del contenido principal",
    ],
    ["jumps of the layout", "Sprünge des Layouts", "sauts de mise en page", "saltos del diseño"],
    ["wait after an input", "Warten nach einer Eingabe", "attente après une action", "espera tras una acción"],
    [
        "wait for the first content",
        "Warten auf den ersten Inhalt",
        "attente du premier contenu",
        "espera del primer contenido",
    ],
    ["wait for the server", "Warten auf den Server", "attente du serveur", "espera del servidor"],
    ["first part of the site", "Einstiegsbereich", "rubrique d'entrée", "sección de entrada"],
    ["present part of the site", "aktueller Bereich", "rubrique actuelle", "sección actual"],
    ["where you came from", "Herkunft des Besuchs", "provenance de la visite", "procedencia de la visita"],
    ["campaign", "Kampagne", "campagne", "campaña"],
    ["kind of device", "Art des Geräts", "type d'appareil", "tipo de dispositivo"],
    ["width of the window", "Breite des Fensters", "largeur de la fenêtre", "ancho de la ventana"],
    ["visit today", "Besuch heute", "visite du jour", "visita de hoy"],
    ["visit this week", "Besuch diese Woche", "visite de la semaine", "visita de la semana"],
    ["visit this month", "Besuch diesen Monat", "visite du mois", "visita del mes"],
    ["time of day", "Tageszeit", "moment de la journée", "momento del día"],
    ["day of the week", "Wochentag", "jour de la semaine", "día de la semana"],
    ["first step", "erster Schritt", "première étape", "primer paso"],
    [
        "speed of the main content",
        "Tempo des Hauptinhalts",
        "vitesse du contenu principal",
        "rapidez del contenido principal",
    ],
    ["steadiness of the layout", "Ruhe des Layouts", "stabilité de la mise en page", "estabilidad del diseño"],
    ["speed of answers", "Tempo der Antworten", "vitesse des réponses", "rapidez de las respuestas"],
    [
        "speed of the first content",
        "Tempo des ersten Inhalts",
        "vitesse du premier contenu",
        "rapidez del primer contenido",
    ],
    ["speed of the server", "Tempo des Servers", "vitesse du serveur", "rapidez del servidor"],
    [
        "stayed or left at once",
        "geblieben oder gleich gegangen",
        "resté ou reparti aussitôt",
        "se quedó o se fue enseguida",
    ],
    ["bought something", "etwas gekauft", "achat effectué", "compra realizada"],
    ["earlier visits", "frühere Besuche", "visites précédentes", "visitas anteriores"],
    [
        "days since the last visit",
        "Tage seit dem letzten Besuch",
        "jours depuis la dernière visite",
        "días desde la última visita",
    ],
    ["days with a purchase", "Tage mit Einkauf", "jours d'achat", "días con compra"],
    [
        "days from first to last purchase",
        "Tage vom ersten zum letzten Einkauf",
        "jours du premier au dernier achat",
        "días de la primera a la última compra",
    ],
    [
        "days since the first purchase",
        "Tage seit dem ersten Einkauf",
        "jours depuis le premier achat",
        "días desde la primera compra",
    ],
    [
        "worth of earlier purchases",
        "Wert früherer Einkäufe",
        "montant des achats précédents",
        "importe de compras anteriores",
    ],
    ["movements of the pointer", "Bewegungen des Zeigers", "mouvements du pointeur", "movimientos del puntero"],
    [
        "even movements of the pointer",
        "gleichmäßige Bewegungen des Zeigers",
        "mouvements réguliers du pointeur",
        "movimientos regulares del puntero",
    ],
    [
        "quick movements of the pointer",
        "schnelle Bewegungen des Zeigers",
        "mouvements rapides du pointeur",
        "movimientos rápidos del puntero",
    ],
    [
        "steady movements of the pointer",
        "stetige Bewegungen des Zeigers",
        "mouvements cadencés du pointeur",
        "movimientos acompasados del puntero",
    ],
    ["purposes taken back", "zurückgenommene Zwecke", "finalités retirées", "finalidades retiradas"],
];

/// The words of categories that are the same on every site.
const LABELS: &[Words] = &[
    ["good", "gut", "bonne", "buena"],
    ["needs-improvement", "mäßig", "moyenne", "mejorable"],
    ["poor", "schlecht", "mauvaise", "mala"],
    ["unknown", "unbekannt", "inconnue", "desconocida"],
    ["first", "der erste", "la première", "la primera"],
    ["again", "ein weiterer", "une autre", "otra más"],
    ["direct", "direkt", "directe", "directa"],
    ["search", "Suchmaschine", "moteur de recherche", "buscador"],
    ["social", "soziales Netz", "réseau social", "red social"],
    ["mail", "E-Mail", "e-mail", "correo"],
    ["site", "andere Website", "autre site", "otro sitio"],
    ["own", "diese Website", "ce site", "este sitio"],
    ["phone", "Handy", "téléphone", "teléfono"],
    ["tablet", "Tablet", "tablette", "tableta"],
    ["desktop", "Computer", "ordinateur", "equipo de escritorio"],
    ["other", "andere", "autre", "otro"],
    ["night", "Nacht", "nuit", "madrugada"],
    ["morning", "Vormittag", "matin", "mañana"],
    ["afternoon", "Nachmittag", "après-midi", "tarde"],
    ["evening", "Abend", "soir", "noche"],
    ["mon", "Montag", "lundi", "lunes"],
    ["tue", "Dienstag", "mardi", "martes"],
    ["wed", "Mittwoch", "mercredi", "miércoles"],
    ["thu", "Donnerstag", "jeudi", "jueves"],
    ["fri", "Freitag", "vendredi", "viernes"],
    ["sat", "Samstag", "samedi", "sábado"],
    ["sun", "Sonntag", "dimanche", "domingo"],
    ["stayed", "geblieben", "resté", "se quedó"],
    ["bounced", "gleich gegangen", "reparti", "se fue"],
    ["no", "nein", "non", "no"],
    ["yes", "ja", "oui", "sí"],
];

fn label(word: &str, language: Language) -> &str {
    LABELS.iter().find(|words| words[0] == word).map_or(word, |words| words[language as usize])
}

/// Whether a number has no fraction; the cast clips what is beyond all counts.
fn whole(value: f64) -> bool {
    value as i64 as f64 == value
}

/// A number with one decimal, where it has a fraction that matters.
fn number(value: f64, language: Language) -> String {
    let text = if whole(value) || value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") };
    if language == Language::En { text } else { text.replace('.', ",") }
}

/// A feature's name, by its place in [`DEFINITIONS`].
#[must_use]
pub fn name(definition: usize, language: Language) -> Option<&'static str> {
    NAMES.get(definition).map(|words| words[language as usize])
}

/// A value of a feature, in its unit; `None` where it has no words of its own (a site's page groups and campaigns).
#[must_use]
pub fn value(definition: usize, value: f64, language: Language) -> Option<String> {
    match DEFINITIONS.get(definition)?.kind {
        Kind::Number { unit: "yes", .. } => Some(label(if value > 0.5 { "yes" } else { "no" }, language).to_owned()),
        Kind::Number { unit: "seconds", .. } => Some(format!("{} s", number(value, language))),
        Kind::Number { unit: "ms", .. } => Some(format!("{} ms", number(value, language))),
        Kind::Number { unit: "percent", .. } => {
            Some(format!("{}{}%", number(value, language), if language == Language::En { "" } else { "\u{a0}" }))
        }
        // Of layout shifts a tenth is much.
        Kind::Number { unit: "score", .. } => {
            let text = format!("{value:.2}");
            Some(if language == Language::En { text } else { text.replace('.', ",") })
        }
        Kind::Number { .. } => Some(number(value, language)),
        Kind::Category { labels: Labels::Fixed(words), .. } => {
            let place = if whole(value) && value >= 0.0 { value as usize } else { usize::MAX };
            words.get(place).map(|word| label(word, language).to_owned())
        }
        Kind::Category { .. } => None,
    }
}

/// A reason: what a feature's value does to a score. `input` is `name@version`, or `page:id` for a feature that the
/// page gives, which is told by its name there.
#[must_use]
pub fn reason(input: &str, of: f64, raises: bool, language: Language) -> String {
    let definition = crate::Definition::find(input);
    let named = definition
        .and_then(|place| name(place, language))
        .map_or_else(|| input.strip_prefix("page:").unwrap_or(input).replace(['-', '_'], " "), |name| name.to_string());
    // Whether a page gave a number or a word's place in a list is the policy's to know.
    let told = definition.and_then(|place| value(place, of, language));
    let way = match (language, raises) {
        (Language::En, true) => "more likely: ",
        (Language::En, false) => "less likely: ",
        (Language::De, true) => "wahrscheinlicher: ",
        (Language::De, false) => "unwahrscheinlicher: ",
        (Language::Fr, true) => "plus probable\u{a0}: ",
        (Language::Fr, false) => "moins probable\u{a0}: ",
        (Language::Es, true) => "más probable: ",
        (Language::Es, false) => "menos probable: ",
    };
    told.map_or_else(|| format!("{way}{named}"), |told| format!("{way}{named} ({told})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Definition;

    #[test]
    fn every_feature_has_a_name_of_its_own_in_every_language() {
        assert_eq!(NAMES.len(), DEFINITIONS.len());
        for language in Language::ALL {
            for (place, words) in NAMES.iter().enumerate() {
                let word = words[language as usize];
                assert!(!word.is_empty());
                let twice = NAMES.iter().skip(place + 1).any(|other| other[language as usize] == word);
                assert!(!twice, "{word} names two features in {}", language.tag());
            }
        }
    }

    #[test]
    fn every_word_that_is_the_same_on_all_sites_has_its_translation() {
        for definition in DEFINITIONS {
            let Kind::Category { labels: Labels::Fixed(words), .. } = definition.kind else { continue };
            for word in words {
                let known = LABELS.iter().any(|words| words[0] == *word);
                // Sizes of windows are called the same everywhere.
                assert!(known || definition.name == "viewport-class", "{word} of {}", definition.name);
            }
        }
    }

    #[test]
    fn names_stand_beside_their_features() {
        let at = |reference| name(Definition::find(reference).unwrap(), Language::De).unwrap();
        assert_eq!(at("pages@1"), "angesehene Seiten");
        assert_eq!(at("ttfb@1"), "Warten auf den Server");
        assert_eq!(at("landing-group@1"), "Einstiegsbereich");
        assert_eq!(at("purchase@1"), "etwas gekauft");
    }

    #[test]
    fn reasons_are_told_in_the_visitors_language() {
        let told = |input, value, raises, tag| reason(input, value, raises, Language::of(tag));
        assert_eq!(told("pages@1", 12.0, true, "en-GB"), "more likely: pages viewed (12)");
        assert_eq!(told("time-product@1", 61.25, true, "de"), "wahrscheinlicher: Zeit auf Produktseiten (61,2 s)");
        assert_eq!(told("cls@1", 0.04, false, "de"), "unwahrscheinlicher: Sprünge des Layouts (0,04)");
        assert_eq!(told("returning@1", 0.0, false, "fr-CA"), "moins probable\u{a0}: déjà venu (non)");
        assert_eq!(told("device-class@1", 0.0, false, "es"), "menos probable: tipo de dispositivo (teléfono)");
        assert_eq!(told("max-scroll@1", 80.0, true, "de"), "wahrscheinlicher: gescrollt bis (80\u{a0}%)");
        // A site's own words are not here; neither is any language but four.
        assert_eq!(told("landing-group@1", 3.0, true, "pt"), "more likely: first part of the site");
        assert_eq!(told("page:cart-value", 19.5, true, "de"), "wahrscheinlicher: cart value");
        assert_eq!(Language::of(""), Language::En);
    }
}
