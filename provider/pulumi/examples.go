package pulumi

import "github.com/skerry-io/skerry/provider/definition"

func (w *schemaWriter) examples(*definition.Definition) string { return "" }
