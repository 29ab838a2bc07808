//! Results that are there already, as something to `await`.
//!
//! Owns the two fast paths: most calls of `receive` and `send` have nothing to wait for, so no coroutine is made. Both
//! are `collections.abc.Coroutine` in all but registration, so `asyncio.create_task(receive())` works too.
//! Invariant: awaited once; a second time raises, as with a coroutine.

use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

/// A value that is there.
#[pyclass(module = "bandstand._worker", frozen)]
pub(crate) struct Ready(Mutex<Option<Py<PyAny>>>);

impl Ready {
    pub(super) fn with(value: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
        Ok(Bound::new(value.py(), Self(Mutex::new(Some(value.clone().unbind()))))?.into_any())
    }

    fn take(&self) -> Option<Py<PyAny>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[pymethods]
impl Ready {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self) -> PyResult<()> {
        Err(match self.take() {
            Some(value) => PyStopIteration::new_err(value),
            None => PyRuntimeError::new_err("cannot reuse already awaited coroutine"),
        })
    }

    fn send(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        only_none(value)?;
        self.__next__()
    }

    #[pyo3(signature = (typ, val=None, tb=None, /))]
    fn throw(
        &self,
        typ: &Bound<'_, PyAny>,
        val: Option<&Bound<'_, PyAny>>,
        tb: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.take();
        Err(thrown(typ, val, tb)?)
    }

    fn close(&self) {
        self.take();
    }
}

/// Nothing to wait for and nothing to say; one for all, since it holds no state.
#[pyclass(module = "bandstand._worker", frozen)]
pub(crate) struct Done;

impl Done {
    pub(super) fn get(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        static DONE: PyOnceLock<Py<Done>> = PyOnceLock::new();
        Ok(DONE.get_or_try_init(py, || Py::new(py, Self))?.bind(py).clone().into_any())
    }
}

#[pymethods]
impl Done {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// The end at once: no exception has to be made for it.
    fn __next__(&self) -> Option<()> {
        None
    }

    fn send(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        only_none(value)?;
        Err(PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (typ, val=None, tb=None, /))]
    fn throw(
        &self,
        typ: &Bound<'_, PyAny>,
        val: Option<&Bound<'_, PyAny>>,
        tb: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        Err(thrown(typ, val, tb)?)
    }

    fn close(&self) {}
}

fn only_none(value: &Bound<'_, PyAny>) -> PyResult<()> {
    if value.is_none() {
        return Ok(());
    }
    Err(PyTypeError::new_err("can't send non-None value to a just-started coroutine"))
}

/// The exception that `throw` was given, in its new or its old form.
fn thrown(
    typ: &Bound<'_, PyAny>,
    val: Option<&Bound<'_, PyAny>>,
    tb: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyErr> {
    let value = match (typ.cast::<PyType>(), val.filter(|val| !val.is_none())) {
        (Err(_), _) => typ.clone(),
        (Ok(class), Some(val)) if val.is_instance(class)? => val.clone(),
        (Ok(class), Some(val)) => class.call1((val,))?,
        (Ok(class), None) => class.call0()?,
    };
    if let Some(tb) = tb.filter(|tb| !tb.is_none()) {
        value.call_method1("with_traceback", (tb,))?;
    }
    Ok(PyErr::from_value(value))
}
