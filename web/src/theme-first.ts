// Runs before anything is painted, so that a chosen theme doesn't flash in the other one.
(() => {
  try {
    const chosen = localStorage.getItem("pixelmill.theme");
    if (chosen === '"light"' || chosen === '"dark"') document.documentElement.dataset["theme"] = JSON.parse(chosen);
  } catch {
    // Storage may be forbidden; the system's theme then stands.
  }
})();
