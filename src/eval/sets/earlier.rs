//! The teacher's sets of an earlier evaluation, for a model whose teacher is no longer there.

use super::{SetReport, SetsReport, Source};
use crate::eval::{EvalError, Evaluation};
use std::path::Path;

/// How far apart the floor of two evaluations may be, relative: they must have measured the same corpus by the same means.
const SAME: f64 = 0.01;

impl SetsReport {
    /// Adds the teacher's sets of the evaluation in the JSON file `path`, unless a teacher was measured.
    ///
    /// # Errors
    /// When that evaluation has none, or it compared other sounds, or at other settings.
    pub fn with_teacher_of(mut self, path: &Path) -> Result<Self, EvalError> {
        let is_teacher = |set: &SetReport| matches!(set.source, Source::Teacher(_));
        if self.sets.iter().any(is_teacher) {
            return Ok(self);
        }
        let earlier: Evaluation = serde_json::from_str(&std::fs::read_to_string(path).map_err(EvalError::at(path))?)?;
        let stranger = |reason: String| EvalError::Stranger { path: path.to_owned(), reason };
        let Some(sets) = &earlier.sets else { return Err(stranger("it measured no distances".to_owned())) };
        let draws = |report: &Self| report.sets.first().map_or(0, |set| set.draws.len());
        let sizes = |report: &Self| (report.chunks, draws(report), report.guidance, report.real_contexts);
        if sizes(&self) != sizes(sets) {
            let reason =
                format!("chunks, draws, guidance, encoded contexts are {:?}, not {:?}", sizes(sets), sizes(&self));
            return Err(stranger(reason));
        }
        let floor = |report: &Self| report.set(Source::Corpus).map_or(f64::NAN, |set| set.frechet.bands.mean);
        let (ours, theirs) = (floor(&self), floor(sets));
        if ours.is_nan() || theirs.is_nan() || (ours - theirs).abs() > SAME * ours {
            return Err(stranger(format!("it measured another corpus: its floor is {theirs:.3}, not {ours:.3}")));
        }
        let teacher: Vec<SetReport> = sets.sets.iter().filter(|set| is_teacher(set)).cloned().collect();
        if teacher.is_empty() {
            return Err(stranger("it measured no teacher".to_owned()));
        }
        let before_students = self.sets.iter().take_while(|set| !matches!(set.source, Source::Student(_))).count();
        self.sets.splice(before_students..before_students, teacher);
        self.teacher_of = Some(earlier.commit.unwrap_or_else(|| earlier.version.clone()));
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{report, set};
    use super::*;
    use crate::eval::evaluation::tests::evaluation;

    fn file(sets: Option<SetsReport>) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let earlier = Evaluation { sets, commit: Some("0123abc".into()), ..evaluation(1.5) };
        std::fs::write(file.path(), serde_json::to_string(&earlier).unwrap()).unwrap();
        file
    }

    #[test]
    fn an_earlier_teacher_stands_in() {
        let now = || report(vec![set(Source::Corpus, 1.0), set(Source::Student(2), 6.0)]);
        let then = report(vec![set(Source::Corpus, 1.001), set(Source::Teacher(8), 5.0), set(Source::Student(2), 7.0)]);
        let path = file(Some(then));
        let both = now().with_teacher_of(path.path()).unwrap();
        let sources: Vec<Source> = both.sets.iter().map(|set| set.source).collect();
        assert_eq!(sources, [Source::Corpus, Source::Teacher(8), Source::Student(2)]);
        assert_eq!(both.against_teacher().unwrap().bands.ratio, 1.2);
        assert!(both.markdown().contains("measured at 0123abc"), "{}", both.markdown());
        // One that was measured needs no other.
        assert_eq!(both.clone().with_teacher_of(Path::new("nowhere")).unwrap(), both);
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let now = || report(vec![set(Source::Corpus, 1.0), set(Source::Student(2), 6.0)]);
        let refused = |sets: Option<SetsReport>| now().with_teacher_of(file(sets).path()).unwrap_err().to_string();
        assert!(refused(None).contains("no distances"));
        assert!(refused(Some(now())).contains("no teacher"));
        let teacher = || set(Source::Teacher(8), 5.0);
        assert!(refused(Some(report(vec![set(Source::Corpus, 1.2), teacher()]))).contains("another corpus"));
        let other = SetsReport { chunks: 11, ..report(vec![set(Source::Corpus, 1.0), teacher()]) };
        assert!(refused(Some(other)).contains("11"));
    }
}
