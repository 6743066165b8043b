//! What the words around a full stop say: abbreviations by what follows them, and words that begin sentences.

use std::collections::HashMap;
use std::sync::LazyLock;

/// What may follow an abbreviation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// A name: `Mr.`, `Gen.`. No sentence ends here.
    Title,
    /// More of the sentence: `e.g.`, `vs.`. No sentence ends here.
    Link,
    /// A number, or a name: `Fig. 2`, `Ref. No.`.
    Numbered,
    /// A number; otherwise it is an ordinary word: `No. 5`, but "She said no."
    NumberedWord,
    /// More of a name, or another sentence: `Inc.`, `Jr.`, `Calif.`. The next word tells.
    Name,
    /// More of the sentence, or another one: `etc.`, `Oct.`, `ft.`. A capital tells.
    Open,
    /// A day of the week: a month may follow.
    Day,
}

const TITLES: &str = "mr mrs ms mx dr prof rev hon capt lt col cmdr cpl pvt gen sgt maj adm gov sen rep pres supt fr msgr \
    messrs mme mlle atty insp";
const LINKS: &str = "vs v cf e.g eg i.e viz approx ca incl excl resp a.k.a c.f esp w.r.t n.b attn";
const NUMBERED: &str = "nos nr fig figs cap deg eq eqs sec secs ch chap chaps vol vols pp para paras sect sects ref refs cl \
    sched ser bk pt pts pg pgs n° nº № § \
    supp compl decl aff dep mem arg br tr dkt civ crim evid proc bankr stat soc cir id ibid exh exhs subd tit fed pub const reg \
    ecf opp bus com jur prac";
const NUMBERED_WORDS: &str = "no p par art arts item items app tab ver ed ex line lot tel ext amend amends doc \
    mot pet op";
const NAMES: &str = "inc ltd co corp llc plc gmbh bros assn assoc mfg intl natl univ dept jr sr esq st ave blvd rd hwy \
    ln sq ste apt bldg fl rm mt ft gov't govt ctr inst acad hosp mgr asst est ph.d d.phil m.sc b.sc m.eng b.eng dipl calif ariz ark colo conn fla kan ky minn mont neb nev okla penn tenn tex vt va wis \
    wyo wash mass mich cal ct sup dist comm bd educ indus elec servs grp hous transp ins cas mut ry pharm prods \
    auth div comm'n comm'r int'l ass'n dep't nat'l sec'y att'y ala del ga ill ind md miss mo ore ont que alta ph phd msc bsc";
const OPEN: &str = "etc al jan feb mar apr jun jul aug sep sept oct nov dec hr hrs min mins lb lbs oz yd yds gal qt km kg cm mm mph rpm kw avg max std qty amt misc temp equiv cont orig prev spec diff fwd recd pop wt ht \
    num inv encl tech info pkg pkgs mtg mtgs yr yrs wk wks bal bbl doz cu admin mgmt acct \
    addr appt asst assoc attd bpm cyl mktg neg neuro abd prelim reqd subj veh";
const DAYS: &str = "mon tue tues wed thu thur thurs fri sat sun";

/// States, which a number of a place may follow: "Boston, Mass. 02110".
const STATES: &str = "ala ark ariz calif cal colo conn del fla ga ill ind kan ky la mass md mich minn miss mo mont neb nev \
    okla ore penn pa tenn tex ut vt va wash wis wyo d.c n.y n.j n.h n.m n.c n.d s.c s.d r.i w.va";

/// Titles that are words, too, in a text without capitals.
const SMALL_TITLES: &str = "gen col rep sen gov hon capt sgt lt maj rev";

/// Words that go on with a sentence behind a mark of it: "No! and left."
const JOINING: &str = "and or nor but then than";

/// Abbreviations that are words, or names of people, if they are written in lower case.
const ONLY_CAPITALISED: &str = "gen col rep sen gov hon rev sat sun mar wash mass ill del miss ore mo pres fed pub bus com sup ins \
    cal";

const MONTHS: &str = "january february march april may june july august september october november december jan feb mar \
    apr jun jul aug sep sept oct nov dec";
const DAY_NAMES: &str =
    "monday tuesday wednesday thursday friday saturday sunday mon tue tues wed thu thur thurs fri";
const ZONES: &str = "est edt cst cdt mst mdt pst pdt et ct mt pt gmt utc bst cet cest ist jst aest";

/// Books of the Bible, which a chapter and a verse follow.
const BOOKS: &str = "gen ex exod lev num deut josh judg sam kgs chron neh esth ps pss prov eccl isa jer lam ezek dan hos mic \
    nah hab zeph hag zech mal matt mk lk jn rom cor gal eph phil col thess tim tit philem heb jas pet rev";

/// Words that begin a sentence and hardly ever go on with a name.
const STARTERS: &str = "a an the this that these those there here it its he she they we you i i'm i've i'd i'll it's \
    he's she's they're we're you're that's there's what's let's don't didn't isn't his her their our your my \
    who what when where why how which whose whom if whether while although though because since unless until before \
    after during despite in on at by from for with without within under over between among through as and but or nor \
    so yet then thus hence however moreover furthermore therefore nevertheless meanwhile otherwise instead also \
    besides indeed still even only just now today tomorrow yesterday soon later once perhaps maybe please thanks \
    thank yes no not never always often sometimes usually finally first second third next last many most some \
    several few all both each every either neither another other others such any none nobody everyone everything \
    someone something anyone one two three four five ten did do does is are was were has have had can could would \
    should shall must might am let according about above below nothing everybody again everyone's whatever whoever \
    who's where's how's ask see hers ours yours theirs mine";
/// Words that begin a sentence, but may also be part of a name such as that of a company.
const COMMON: &str = "sales prices price costs revenue revenues profit profits shares customers customer users employees \
    staff workers people payment payments delivery deliveries orders demand investors analysts shareholders management \
    production output critics officials police residents students patients doctors results details questions \
    comments bring send call contact check make take read write pay keep add use note remember consider \
    nobody's work talks negotiations trading stocks exports imports unemployment inflation revenue's rent tickets \
    admission doors registration attendance parties payments' will may half part rain snow temperatures traffic";

/// The starters of sentences that are sure in a text without capitals.
const SURE_STARTERS: &str = "the this these those there here it it's its he he's she she's they they're we we're you you're i \
    i'm i'll i've his her their our my how what why please thanks yes however but not see that's there's let's also";
/// Verbs that go along with speech: "Stop!" Anna cried.
const SPEECH: &str = "said says asked asks cried shouted added adds replied told tells wrote writes explained noted whispered \
    answered thought yelled exclaimed warned insisted remarked continued laughed muttered called";

/// Words in small letters that go on with a sentence: "acme inc. in oslo".
const PREPOSITIONS: &str = "in on at by from for with without within under over between among through as and but or nor to of is are was \
    were has have had will would can could should did does do who which that until after before since because when \
    where if may must shall might one two three then also only any all";

/// Nouns that are told apart by letters: no initial is behind them.
const LETTERED: &str = "plan plans exhibit exhibits vitamin vitamins schedule appendix annex attachment section part class \
    grade group type option options hepatitis team block building gate terminal hall room level series item point figure \
    table tier unit zone phase step clause influenza drive column row form note version model size route platform wing \
    stage lot question answer party side scenario variant category list ward bay dock line sample site pool batch \
    product score rating share shares tranche letter letters train bus strain factor war title chapter volume act";

/// Companies and works whose names end in an exclamation or question mark.
const EXCLAIMED: &str =
    "yahoo yum jeopardy guess wham oklahoma taboola elliott joomla panic therapy ahoy airplane";
/// Words that go on with the name of a company.
const COMPANY_WORDS: &str = "inc corp ltd co llc plc brands group holdings japan news mail finance sports \
    answers entertainment international company china japan india taiwan korea brazil mexico canada france germany italy \
    spain australia europe asia america uk us usa search messenger games music tv store stores foods";
/// Headings that a number follows, and a dot.
const HEADINGS: &str = "section article clause chapter part rule step paragraph artikel kapitel abschnitt";
/// Months, and words before a number, in German.
const GERMAN_MONTHS: &str = "januar jänner februar märz mai juni juli oktober dezember";
const GERMAN_ARTICLES: &str = "das dem des im zum vom beim zur seit jeder jedes jeden der";
const GERMAN_WORDS: &str = "am den bis ab nach vor";

/// Words of two or three letters that are no abbreviations.
const SHORT_WORDS: &str = "it is me us go so up on in no do we he my ok by to at am be if or as an i a you him her out off \
    now yes not all one two six ten day way job lot see say buy pay fix run use try end new old bad big too any due car \
    bug pdf api url web app log top red man men son war law oil tax fee fun get got let did was are can may had has who \
    why how it's off ago her hey lol thx box bag key car bus bed sun air sea sky eye arm leg ear map set cut put hit \
    win won lost tea pub bar gym hr it pm ceo cfo cto vat usa faq atm id ids pc tv team bob tom ann joe tim";
/// Words that begin a greeting, or the end of a letter.
const GREETINGS: &str = "dear hello hi hey good greetings yours regards best kind sincerely cheers thanks many warm with respectfully";
/// Words of which prose is full, and that no name has but at its beginning.
const GRAMMAR: &str = "a an the this that these those it its he she they we you i i'm it's his her their our your my me him us \
    them who what when where why how which whose is are was were be been being am has have had do does did can could \
    will would shall should might must not if because although while until since than as at by for from in into on \
    onto to with without over under between through during after before about against but nor yet also only just very \
    there here then ist und nicht wurde sind wird sich dem est dans une sont était fue";
/// Words that prose and names are linked by.
const LINK_WORDS: &str = "of and or de la";
/// Words at whose end no line is finished: it was wrapped there.
const UNFINISHED: &str = "a an and are as at be been but by can could did do does for from had has have he her his if in \
    into is it its may my no not of on or our over she should so such than that the their them then there \
    these they this those to under up upon was we were when where whether which while who whose will with within without \
    would you your about after all also am among any because before being between both during each either every more \
    most must new other said says some their through until via very what van von der den del di du bin ibn &";

/// A set of words, made of a line of them.
struct Words(LazyLock<HashMap<&'static str, ()>>);

macro_rules! sets {
    ($($name:ident = $list:expr;)*) => {
        $(pub(crate) fn $name(word: &str) -> bool {
            static SET: Words = Words(LazyLock::new(|| $list.split_whitespace().map(|w| (w, ())).collect()));
            SET.0.contains_key(word)
        })*
    };
}

/// Words that a section does not follow without another sentence: "He cited the Code. § 12 applies."
const ENDING: &str = "code act acts law laws rule rules court courts state";

/// Words of a phrase that only says when: "Shortly after 5 a.m. Mr. Lee called."
const WHEN: &str = "at by on from before after until till around since about between to and or shortly just only early late \
    sometime exactly nearly almost soon past the morning evening afternoon night of in next last this every each \
    yesterday today tomorrow noon midnight a.m p.m am pm";
/// Zones of time by their names.
const ZONE_NAMES: &str = "eastern central mountain pacific atlantic greenwich zulu";
/// What is behind "every", "this" or "last" if that says when.
const DAY_PARTS: &str = "morning afternoon evening night day weekday weekend week month year time";
/// Verbs that begin a question, and go on with a sentence behind its subject.
const VERBS: &str =
    "is are was were am be been has have had will would can could shall should must may might do does did";
/// Words that ask.
const ASKING: &str = "what when where why how who which whose";
/// Who does what is said.
const SUBJECTS: &str = "i you u we they he she it anyone anybody someone somebody everyone everybody nobody";
/// Words that are no longer open at the end of a clause.
const OBJECTS: &str = "it you u him her them us me this that these those his mine more most all before after about other said \
    everyone everybody someone somebody anyone anybody nobody through up not no now";
/// What ends a talk: "no idea... bye".
const FAREWELLS: &str = "bye goodbye goodnight gn cya thanks thank thx ty ttyl cheers sorry";
const ARTICLES: &str = "a an the my your our his her their its this that each every no any some";
/// What is counted, besides words that end with an s.
const MANY: &str = "people men women children others percent million billion thousand hundred more";

/// Short forms of prescriptions, behind which a sentence may end.
const DOSES: &str = "b.i.d t.i.d q.i.d q.d q.h q.h.s h.s p.r.n p.o i.v i.m s.c p.c a.c";

/// Those of [`NUMBERED_WORDS`] that are words wherever they stand.
const WORDS: &str = "no item items line lot doc pet op";

sets! {
    is_word = WORDS;
    is_ending = ENDING;
    is_when = WHEN;
    is_dose = DOSES;
    is_zone_name = ZONE_NAMES;
    is_day_part = DAY_PARTS;
    is_verb = VERBS;
    is_asking = ASKING;
    is_subject = SUBJECTS;
    is_object = OBJECTS;
    is_farewell = FAREWELLS;
    is_article = ARTICLES;
    is_of_many = MANY;
    is_state = STATES;
    is_month = MONTHS;
    is_day_name = DAY_NAMES;
    is_zone = ZONES;
    is_book = BOOKS;
    is_starter = STARTERS;
    is_common = COMMON;
    is_greeting = GREETINGS;
    is_sure_starter = SURE_STARTERS;
    is_speech = SPEECH;
    is_lettered = LETTERED;
    is_exclaimed = EXCLAIMED;
    goes_on_with_company = COMPANY_WORDS;
    is_short_word = SHORT_WORDS;
    is_unfinished = UNFINISHED;
    is_grammar = GRAMMAR;
    is_link = LINK_WORDS;
    is_preposition = PREPOSITIONS;
    is_small_title = SMALL_TITLES;
    is_joining = JOINING;
    is_heading = HEADINGS;
    is_german_month = GERMAN_MONTHS;
    is_german_article = GERMAN_ARTICLES;
    is_german_word = GERMAN_WORDS;
    only_capitalised = ONLY_CAPITALISED;
}

static CLASSES: LazyLock<HashMap<&'static str, Class>> = LazyLock::new(|| {
    let lists = [
        (OPEN, Class::Open),
        (NAMES, Class::Name),
        (NUMBERED_WORDS, Class::NumberedWord),
        (NUMBERED, Class::Numbered),
        (LINKS, Class::Link),
        (DAYS, Class::Day),
        (TITLES, Class::Title),
    ];
    lists.iter().flat_map(|(list, class)| list.split_whitespace().map(|word| (word, *class))).collect()
});

/// Whether a word is in the plural, as it seems: "people", "members".
pub(super) fn is_many(word: &str) -> bool {
    is_of_many(word) || (word.len() > 3 && word.ends_with('s') && !word.ends_with("ss"))
}

/// Longest abbreviation in the tables, in bytes; longer words are not looked up.
pub(super) const WORD_MAX: usize = 24;

/// Whether a word in small letters goes on with what is before it, so that a line does not begin a list with
/// it.
pub(super) fn goes_on(word: &str) -> bool {
    is_preposition(word) || matches!(word, "a" | "an" | "the" | "than" | "be" | "been")
}

/// The class of an abbreviation, without its last dot.
pub(super) fn class(stem: &str, lower: &str, after_number: bool) -> Option<Class> {
    let is_capitalised = stem.starts_with(char::is_uppercase);
    if !is_capitalised && only_capitalised(lower) && !after_number {
        return (lower == "rev").then_some(Class::NumberedWord);
    }
    // "Id. at 45", but "Show your ID."
    if lower == "id" && stem != "Id" {
        return None;
    }
    // "Hr. Weber", but "5 hr. later"
    if stem == "Hr" && !after_number {
        return Some(Class::Title);
    }
    // "6 ft." is a length, "Ft. Worth" a place; "5 min." and "30 sec." are times.
    if after_number && matches!(lower, "ft" | "in" | "sec" | "mo" | "min" | "mi" | "pt") {
        return Some(Class::Open);
    }
    // "at 9 EST." is a time zone, "Est. 1990" an age.
    if lower == "est" && stem == "EST" {
        return None;
    }
    CLASSES.get(lower).copied()
}

/// I, II, III, IV … as they number articles and chapters.
pub(super) fn is_roman(word: &str) -> bool {
    (1..=7).contains(&word.len()) && word.bytes().all(|b| matches!(b, b'I' | b'V' | b'X' | b'L' | b'C'))
}
