// Before anything is painted, so that a page that was told to be dark is never light for a moment.
(() => {
  let theme = null;
  try {
    theme = localStorage.getItem("maitred-theme");
  } catch {
    // A browser that keeps nothing follows the system.
  }
  if (theme === "light" || theme === "dark") {
    document.documentElement.dataset.theme = theme;
  }
})();
